"""Loading the server's part."""

import gc

import pytest

from handful.cli.server_part import loading


def test_garbage_is_collected_again_after_loading_also_where_loading_fails() -> None:
    with loading():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    with pytest.raises(OSError, match="no file"), loading():
        raise OSError("no file")
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
