"""The wire's options beside the record that is made of them."""

from dataclasses import fields
from typing import get_type_hints

from handful.wire import AdaptOptionFields, AdaptRequest, ClassifyRequest
from metalearn.options import AdaptOptions


def test_the_options_of_the_wire_are_those_of_the_record() -> None:
    wire = {name: (field.annotation, field.default) for name, field in AdaptOptionFields.model_fields.items()}
    hints = get_type_hints(AdaptOptions)
    assert wire == {field.name: (hints[field.name], field.default) for field in fields(AdaptOptions)}


def test_every_field_of_a_request_is_described() -> None:
    for request in (AdaptRequest, ClassifyRequest):
        assert [name for name, field in request.model_fields.items() if not field.description] == []
