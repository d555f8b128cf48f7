"""Tables: delimiters, headers, quotes, line ends and rows that do not fit."""

import pytest

from handful.files import FileInvalid, ReadOptions, read_queries, read_support
from tests.handful.files.conftest import Write

EXAMPLES = [("I want my money back", "refund"), ("where is my parcel", "delivery"), ("return my payment", "refund")]
BODY = "".join(f"{text},{label}\n" for text, label in EXAMPLES)


def pairs(source: str, **options: str) -> list[tuple[str, str | None]]:
    """Text and label of each example."""
    return [(row.text, row.label) for row in read_support(source, ReadOptions(**options)).rows]


def refused(source: str, *, labelled: bool = True, **options: str) -> str:
    """The message of a refusal."""
    with pytest.raises(FileInvalid) as caught:
        (read_support if labelled else read_queries)(source, ReadOptions(**options))
    assert str(caught.value).startswith(caught.value.source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("text,label", "text from 'text', label from 'label'"),
        ("Text,LABEL", "text from 'Text', label from 'LABEL'"),
        ("text, label", "text from 'text', label from 'label'"),
        (" text ,label ", "text from 'text', label from 'label'"),
        ('"text","label"', "text from 'text', label from 'label'"),
        ("utterance,intent", "text from 'utterance', label from 'intent'"),
        ("Sentence,Category", "text from 'Sentence', label from 'Category'"),
        ("Message,class", "text from 'Message', label from 'class'"),
        ("query,target", "text from 'query', label from 'target'"),
        ("content,topic", "text from 'content', label from 'topic'"),
        ("body,sentiment", "text from 'body', label from 'sentiment'"),
        ("Review,Tag", "text from 'Review', label from 'Tag'"),
        ("question,Catégorie", "text from 'question', label from 'Catégorie'"),
        ("Nachricht,Kategorie", "text from 'Nachricht', label from 'Kategorie'"),
        ("description,label", "text from 'description', label from 'label'"),
        ("Kundentext,label", "text from 'Kundentext', label from 'label'"),
        ("text,label,,", "text from 'text', label from 'label'"),
        ("\ufefftext,label", "text from 'text', label from 'label'"),
    ],
)
def test_a_header_is_known_by_its_names(write: Write, header: str, found: str) -> None:
    read = read_support(write("a.csv", f"{header}\n{BODY}"))
    assert [(row.text, row.label) for row in read.rows] == EXAMPLES
    assert [row.line for row in read.rows] == [2, 3, 4]
    assert read.found == f"3 rows; {found}; commas, UTF-8"
    assert read.source == "a.csv"


@pytest.mark.parametrize(
    ("header", "row", "text", "label", "aside"),
    [
        ("title,text,label", "a,b,c", "b", "c", "title"),
        ("subject,body,category", "a,b,c", "b", "c", "subject"),
        ("text,comment,label", "a,b,c", "a", "c", "comment"),
        ("text,label,topic", "a,b,c", "a", "b", "topic"),
        ("text,label,label_text", "a,0,bad", "a", "bad", "label"),
    ],
)
def test_columns_set_aside_are_named(write: Write, header: str, row: str, text: str, label: str, aside: str) -> None:
    read = read_support(write("a.csv", f"{header}\n{row}\n"))
    assert (read.rows[0].text, read.rows[0].label) == (text, label)
    assert f"not from '{aside}'" in read.found


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            "text,category,sentiment",
            "'category' and 'sentiment' could both be the label: choose one with --label-column",
        ),
        ("review,comment,label", "'review' and 'comment' could both be the text: choose one with --text-column"),
        ("text,text,label", "could both be the text"),
        (
            "question,answer,notes",
            "no column is known to hold the label: the columns are 'question', 'answer', 'notes'",
        ),
        ("id,foo,bar", "no name of a text or label is in the first row, 'id', 'foo', 'bar'"),
        ("foo,bar,label", "no column is known to hold the text: the columns are 'foo', 'bar', 'label'"),
    ],
)
def test_a_header_that_is_not_clear_is_refused_with_its_columns(write: Write, header: str, reason: str) -> None:
    message = refused(write("a.csv", f"{header}\n1,2,3\n"))
    assert message.startswith("a.csv, line 1: ")
    assert reason in message


def test_columns_of_an_unknown_header_are_proposed(write: Write) -> None:
    rows = "1;Meine Überweisung fehlt;Zahlung\n2;Die Lastschrift kam doppelt;Zahlung\n3;Die App stürzt ab;Störung\n"
    message = refused(write("a.csv", f"Nr.;Deine Anfrage;Kategorie\n{rows}"))
    assert "the columns with --text-column 'Deine Anfrage' and --label-column Kategorie" in message


def test_the_caller_names_columns(write: Write) -> None:
    source = write("a.csv", "Kunde;Gruppe;Text\na;b;c\n")
    assert pairs(source, text_column="kunde", label_column="Gruppe") == [("a", "b")]
    assert pairs(source, text_column="1", label_column="2") == [("a", "b")]
    assert "there is no 'Kund' among the columns" in refused(source, text_column="Kund", label_column="Gruppe")


@pytest.mark.parametrize(("delimiter", "word"), [(",", "commas"), (";", "semicolons"), ("\t", "tabs"), ("|", "pipes")])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiters_and_line_ends(write: Write, delimiter: str, word: str, end: str) -> None:
    lines = [delimiter.join(pair) for pair in [("text", "label"), *EXAMPLES]]
    read = read_support(write("a.csv", end.join(lines) + end))
    assert [(row.line, row.text, row.label) for row in read.rows] == [
        (line, *pair) for line, pair in enumerate(EXAMPLES, 2)
    ]
    assert read.found.endswith(f"; {word}, UTF-8")


def test_the_delimiter_may_occur_in_texts(write: Write) -> None:
    assert pairs(write("a.csv", "text;label\nHello, you, there;a\nHi, all, here;b\n")) == [
        ("Hello, you, there", "a"),
        ("Hi, all, here", "b"),
    ]
    assert "commas or semicolons could both" in refused(write("b.csv", "a;b,c;d\nx;y,z;w\n"))
    assert pairs(write("c.csv", "text:label\na:x\n"), delimiter=":") == [("a", "x")]
    assert pairs(write("d.csv", "text\tlabel\na\tx\n"), delimiter="tab") == [("a", "x")]
    assert "one character, or tab" in refused("d.csv", delimiter="ab")
    assert "--delimiter" in refused(write("e.csv", "text:label\na:x\n"))


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;"])
def test_excels_own_line_names_the_delimiter(write: Write, first: str) -> None:
    read = read_support(write("a.csv", f"{first}\r\ntext;label\r\na, b;x\r\n"))
    assert [(row.line, row.text, row.label) for row in read.rows] == [(3, "a, b", "x")]


def test_quotes(write: Write) -> None:
    content = 'text,label\n"a, b",x\n"two\nlines, ""quoted""",y\n5" screen,z\n'
    read = read_support(write("a.csv", content))
    assert [(row.line, row.text) for row in read.rows] == [(2, "a, b"), (3, 'two\nlines, "quoted"'), (5, '5" screen')]
    assert pairs(write("b.csv", 'text, label\n"a, b", "x, y"\n')) == [("a, b", "x, y")]
    assert pairs(write("c.csv", 'text,label\na, "x, y"\n')) == [("a", "x, y")]
    assert pairs(write("d.csv", "'text','label'\n'a, b','x'\n")) == [("a, b", "x")]
    assert pairs(write("e.csv", 'text,label\n"say \\"hi\\", now",x\n')) == [('say "hi", now', "x")]
    assert "line 3: a quote opens here and is not closed" in refused(write("f.csv", 'text,label\na,x\n"b,y\nc,z\n'))
    assert "line 2: a quoted text goes on" in refused(write("g.csv", 'text,label\n"Hi" he said,x\n'))


def test_tab_separated_files_may_hold_quotes_as_they_are(write: Write) -> None:
    assert pairs(write("a.tsv", 'text\tlabel\n"Hi" he said\tx\n')) == [('"Hi" he said', "x")]
    assert pairs(write("b.tsv", 'text\tlabel\n"one\tx\ntwo\ty\nthree"\tz\n')) == [
        ('"one', "x"),
        ("two", "y"),
        ('three"', "z"),
    ]
    assert pairs(write("c.tsv", 'text\tlabel\n"a ""b"""\tx\n"two\nlines"\ty\n')) == [
        ('a "b"', "x"),
        ("two\nlines", "y"),
    ]


def test_the_rule_of_a_markdown_table_is_no_example(write: Write) -> None:
    rows = "| a card | card |\n| a fee | fee |\n"
    for rule in ("|---|---|", "| :--- | ---: |"):
        source = write("a.md", f"| text | label |\n{rule}\n{rows}")
        assert [(row.line, row.label) for row in read_support(source).rows] == [(3, "card"), (4, "fee")]
        assert [row.line for row in read_queries(source).rows] == [3, 4]
    assert pairs(write("b.csv", f"text,label\n---,---\n{BODY}"))[0] == ("---", "---")


def test_a_text_longer_than_a_field_may_be_is_refused_as_long(write: Write) -> None:
    message = refused(write("a.csv", f"text,label\n{'x' * 200_000},a\nb,c\n"))
    assert message == "a.csv, line 2: a field is longer than 131072 characters: shorten it, or close its quote"


def test_blank_rows_are_skipped_and_counted(write: Write) -> None:
    read = read_support(write("a.csv", ",\ntext,label\n\na,x\n,\n , \nb,y,,\n,,\n"))
    assert [(row.line, row.text) for row in read.rows] == [(4, "a"), (7, "b")]
    assert "5 blank rows skipped" in read.found


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            "text,label\na,x\nHello, you,y\n",
            "line 3: this row has 3 fields, the header has 2: quote texts that hold a comma",
        ),
        ("text,label,\na,x,\nHello, you,y\n", "line 3: this row has 3 fields, the header has 2"),
        (
            "text;label\nHello; you;y\n",
            "line 2: this row has 3 fields, the header has 2: quote texts that hold a semicolon",
        ),
        ("text,label\na\n", "line 2: this row has 1 field, the header has 2: fill the fields"),
        ('text,label\n"two\nlines",x\na,b,c\nd,e,f\n', "line 4: this row has 3 fields"),
        ('text,label\n"two\nlines",x\na,b,c\nd,e,f\n', "(also line 5)"),
        ("text,label\n ,x\n", "line 2: no text in column 'text'"),
        ("hello, you\nwhere is my card\n", "line 2: this row has 1 field, the first row has 2"),
    ],
)
def test_rows_that_do_not_fit_are_refused(write: Write, content: str, reason: str, *, labelled: bool) -> None:
    assert reason in refused(write("a.csv", content), labelled=labelled)


def test_a_query_file_of_one_column_with_unquoted_commas_is_refused(write: Write) -> None:
    source = write("a.csv", "text\nHello, where is my card\nwhy\n")
    assert "line 2: this row has 2 fields, the header has 1: quote texts that hold a comma" in refused(
        source, labelled=False
    )
    rows = read_queries(source, ReadOptions(delimiter="tab")).rows
    assert [row.text for row in rows] == ["Hello, where is my card", "why"]


def test_an_example_without_label_is_refused_and_a_query_without_is_not(write: Write) -> None:
    source = write("a.csv", "text,label\na,x\nhello there, \n")
    assert "a.csv, line 3: no label in column 'label'" in refused(source)
    assert [row.label for row in read_queries(source).rows] == ["x", None]
    assert "line 1: no column is known to hold the label" in refused(write("b.csv", "text\na\nb\n"))


def test_a_table_without_header_is_read_where_its_columns_differ(write: Write) -> None:
    read = read_support(write("a.csv", BODY + "the parcel is late,delivery\n"))
    assert [(row.line, row.label) for row in read.rows] == [
        (1, "refund"),
        (2, "delivery"),
        (3, "refund"),
        (4, "delivery"),
    ]
    assert read.found == "4 rows; text from column 1, label from column 2 (a guess), no header; commas, UTF-8"
    assert pairs(write("b.csv", "".join(f"{label};{text}\n" for text, label in EXAMPLES))) == EXAMPLES
    # A label that is the name of a column too
    questions = "how do I reset it,question\nit is broken now,issue\nwhat is this,question\nbroken,issue\n"
    assert pairs(write("c.csv", questions))[0] == ("how do I reset it", "question")


@pytest.mark.parametrize(
    "content", ["foo,bar\na b,x\nc d,x\n", "a b,c d\ne f,g h\n", "one,two,three\na,b,c\n", "a,b\n"]
)
def test_a_table_with_ambiguous_columns_is_refused(write: Write, content: str) -> None:
    message = refused(write("a.csv", content))
    assert "a.csv, line 1: " in message
    assert "--text-column" in message
    columns = {"text_column": "1", "label_column": "2"}
    assert pairs("a.csv", **columns)[0] == tuple(content.split("\n", maxsplit=1)[0].split(",")[:2])


def test_pairs_ids_and_weights(write: Write) -> None:
    read = read_support(write("a.csv", "id,premise,hypothesis,label,weight\ne1,a,b,x,2\ne2,c,,y,\n"))
    assert [(row.id, row.text, row.text_pair, row.label, row.weight) for row in read.rows] == [
        ("e1", "a", "b", "x", 2.0),
        ("e2", "c", None, "y", None),
    ]
    assert "text from 'premise' and 'hypothesis'" in read.found
    assert 'line 2: the weight is "heavy"' in refused(write("b.csv", "text,label,weight\na,x,heavy\n"))
    customers = read_support(write("c.csv", "id,text,label\n7,a,x\n7,b,y\n"))
    assert [row.id for row in customers.rows] == [None, None]
    assert "ids left out" in customers.found


@pytest.mark.parametrize(
    ("content", "reason"),
    [("", "the file is empty"), ("text,label\n", "line 1 is a header, and nothing is below it"), (",\n,\n", "no row")],
)
def test_a_table_without_rows_is_refused(write: Write, content: str, reason: str) -> None:
    for labelled in (True, False):
        message = refused(write("a.csv", content), labelled=labelled)
        assert message.startswith("a.csv: 0 rows read: ")
        assert reason in message


def test_cells_of_several_labels_are_noted(write: Write) -> None:
    found = read_support(write("a.csv", 'text,labels\na,refund\nb,"refund, late"\nc,late\n')).found
    assert "'refund, late' is read as one label (several are a list in JSON)" in found
    assert "one label" not in read_support(write("b.csv", 'text,label\na,"yes, please"\nb,no\nc,no\n')).found
