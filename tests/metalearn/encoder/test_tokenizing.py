"""Texts to token ids: Unicode forms, what of a long text is read, and texts that the tokenizer cannot read."""

# ruff: noqa: RUF001 - these characters are what is tested

import unicodedata
from itertools import pairwise, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from metalearn.encoder.tokenizing import HEAD_SHARE, TextTokenizer, TokenizedText, nfkc
from metalearn.types import TextInput

WORDS = [
    "card",
    "fee",
    "order",
    "late",
    "again",
    "please",
    "money",
    "charge",
    "where",
    "letter",
    "bank",
    "lost",
    "help",
]
"""One token each."""


@pytest.fixture(scope="module")
def vocabulary(stock_folder: Path) -> Path:
    return stock_folder / "tokenizer.json"


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> TextTokenizer:
    """The stock tokenizer."""
    return TextTokenizer(vocabulary, 256)


@pytest.fixture(scope="module")
def plain(vocabulary: Path) -> Tokenizer:
    """The tokenizer of the library by itself, which cuts nothing."""
    tokenizer = Tokenizer.from_file(str(vocabulary))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def read(tokenizer: TextTokenizer, text: str, text_pair: str | None = None) -> TokenizedText:
    (found,) = tokenizer([TextInput(text, text_pair)])
    return found


@pytest.mark.parametrize(
    "text",
    [
        "ｒｅｆｕｎｄ ｍｙ ｏｒｄｅｒ",
        "𝐫𝐞𝐟𝐮𝐧𝐝 𝐦𝐲 𝐨𝐫𝐝𝐞𝐫",
        "𝓻𝓮𝓯𝓾𝓷𝓭 𝓂𝓎 𝔬𝔯𝔡𝔢𝔯",
        "ⓡⓔⓕⓤⓝⓓ ᵐʸ order",
        "refund\u00a0my\u3000order",
    ],
)
def test_letters_in_another_form_are_the_plain_ones(tokenizer: TextTokenizer, text: str) -> None:
    want = read(tokenizer, "refund my order")
    assert read(tokenizer, text) == want
    assert read(tokenizer, "a card", text) == read(tokenizer, "a card", "refund my order")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ﬁle a claim for ﬂight LH 40", "file a claim for flight LH 40"),
        ("ﾃﾞｰﾀ", "データ"),
        ("ﺑﺎﻟﻌﺮﺑﻴﺔ", "بالعربية"),
        ("100 ㎞", "100 km"),
        ("wait… what‼", "wait... what!!"),
    ],
)
def test_compatibility_characters_are_what_they_stand_for(tokenizer: TextTokenizer, text: str, same: str) -> None:
    assert read(tokenizer, text) == read(tokenizer, same)


ORDINARY = [
    "I was charged twice for my order, could I have my money back?",
    "It’s the café’s “best” naïve résumé – don’t you think? £5, 10 € & 20% off! #deal @shop http://a.example/b?c=d_e",
    "Warum wurde mir eine Gebühr für Überweisungen berechnet?",
    "¿Dónde está mi tarjeta? ¡Nadie contesta!",
    "tabs\tand\r\nlines\n\n- a list * of [things] (or {more}) ^ ~ | \\ `code` <b>bold</b> a@b.example +44 20 0000",
    "cafe\u0301 in two characters",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_gives_the_tokens_of_the_tokenizer_itself(
    tokenizer: TextTokenizer, plain: Tokenizer, text: str
) -> None:
    one, two = plain.encode(text), plain.encode("my card", text)
    assert read(tokenizer, text) == TokenizedText(one.ids, one.type_ids, truncated=False)
    assert read(tokenizer, "my card", text) == TokenizedText(
        two.ids, two.type_ids, truncated=False, second_from=two.type_ids.index(1)
    )


@given(st.text(st.characters(codec="ascii"), max_size=200), st.none() | st.text(st.characters(codec="ascii")))
def test_ascii_gives_the_tokens_of_the_tokenizer_itself(
    tokenizer: TextTokenizer, plain: Tokenizer, text: str, text_pair: str | None
) -> None:
    found, want = read(tokenizer, text, text_pair), plain.encode(text, text_pair)
    assert (found.ids, found.type_ids, found.truncated) == (want.ids, want.type_ids, False)
    assert found.empty == all(want.special_tokens_mask)


@given(st.text(max_size=60))
def test_a_text_and_its_normal_form_are_one(tokenizer: TextTokenizer, text: str) -> None:
    assert read(tokenizer, text) == read(tokenizer, unicodedata.normalize("NFKC", text))


@pytest.mark.parametrize(
    "text",
    [
        "ดีมาก",
        "แย่",
        "บริการดีมาก ส่งของเร็ว",
        "កម្ពុជា",
        "ສະບາຍດີ",
        "မင်္ဂလာပါ",
        "გამარჯობა",
        "አማርኛ",
        "ਪੰਜਾਬੀ",
        "తెలుగు",
        "ಕನ್ನಡ",
        "മലയാളം",
        "සිංහල",
        "ᏣᎳᎩ",
        "我要退款",
        "快递还没到",
        "申请退款",
        "😍",
        "👍👍👍",
        "👎🏽",
        "🇩🇪 🇫🇷",
        "👨‍👩‍👧",
        "😀 ok",
        "great ดีมาก",
        "iPhone 15 พังแล้วเปลี่ยนให้หน่อยได้ไหมครับ",
        "refund 退款退款退款",
        "x" * 101,
    ],
)
def test_a_text_half_of_which_is_unknown_is_unreadable(tokenizer: TextTokenizer, text: str) -> None:
    assert read(tokenizer, text).unreadable
    assert read(tokenizer, text, "where is my card").unreadable, "of a pair either text counts"
    assert read(tokenizer, "where is my card", text).unreadable
    assert read(tokenizer, text, text).unreadable


@pytest.mark.parametrize(
    "text",
    [
        *ORDINARY,
        "refund 😀",
        "love it 😍",
        "thanks a lot 🙏🙏🙏🙏🙏🙏🙏🙏",
        "My name is สมชาย and I want a refund",
        "Привет, где моя карта?",
        "Πού είναι η κάρτα μου;",
        "أين بطاقتي",
        "איפה הכרטיס שלי",
        "मेरा कार्ड कहाँ है",
        "আমার কার্ড কোথায়",
        "こんにちは、カードはどこですか",
        "안녕하세요, 카드가 어디에 있나요",
        "Հայերեն լեզու",
        "ｒｅｆｕｎｄ",
        "?!",
        "42",
        "it fails with this token, what is wrong: " + "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" * 20,
    ],
)
def test_a_text_that_is_mostly_known_is_not(tokenizer: TextTokenizer, text: str) -> None:
    assert not read(tokenizer, text).unreadable
    assert not read(tokenizer, text, "where is my card").unreadable
    assert not read(tokenizer, "where is my card", text).unreadable


def test_an_empty_text_is_empty_and_not_unreadable(tokenizer: TextTokenizer) -> None:
    for text in ("", "   ", "\u200b\u200d", "\x00\x07"):
        assert read(tokenizer, text) == TokenizedText([101, 102], [0, 0], truncated=False, empty=True)
    assert not read(tokenizer, "", "where is my card").unreadable
    assert read(tokenizer, "", "😍").unreadable


def test_what_is_left_out_of_a_long_text_does_not_make_it_unreadable(vocabulary: Path) -> None:
    tokenizer = TextTokenizer(vocabulary, 16)
    thai, english = "ดีมาก " * 30, "where is my card " * 10
    assert not read(tokenizer, english + thai + english).unreadable
    assert read(tokenizer, thai + english + thai).unreadable


def saved(tokenizer: Tokenizer, folder: Path) -> TextTokenizer:
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return TextTokenizer(folder / "tokenizer.json", 16)


@pytest.mark.parametrize(
    "model",
    [
        models.WordLevel({"card": 0, "<?>": 7}, unk_token="<?>"),
        models.WordPiece({"card": 0, "<?>": 7}, unk_token="<?>"),
        models.Unigram([("card", -1.0), ("<?>", -9.0)], unk_id=1),
    ],
)
def test_the_unknown_token_is_the_tokenizers_own(model: models.Model, tmp_path: Path) -> None:
    tokenizer = saved(Tokenizer(model), tmp_path)
    assert read(tokenizer, "card @").unreadable
    assert not read(tokenizer, "card card @").unreadable
    assert not read(tokenizer, "card").unreadable


@pytest.mark.parametrize(
    "model", [models.BPE({"c": 0, "[UNK]": 1}, []), models.Unigram([(letter, -1.0) for letter in "card"])]
)
def test_a_tokenizer_without_an_unknown_token_flags_nothing(model: models.Model, tmp_path: Path) -> None:
    tokenizer = saved(Tokenizer(model), tmp_path)
    assert not read(tokenizer, "card" if isinstance(model, models.Unigram) else "c@@").unreadable


def numbered(n: int, *, offset: int = 0) -> list[str]:
    """Words of one token each, no two neighbours alike."""
    return [WORDS[(5 * i + offset) % len(WORDS)] for i in range(n)]


def test_of_a_long_text_the_beginning_and_the_end_are_read(vocabulary: Path, plain: Tokenizer) -> None:
    tokenizer = TextTokenizer(vocabulary, 32)
    words = numbered(100)
    found = read(tokenizer, " ".join(words))
    head = round(30 * HEAD_SHARE)
    assert found.truncated
    assert found.ids == plain.encode(" ".join(words[:head] + words[len(words) - (30 - head) :])).ids
    assert found.type_ids == [0] * 32


def test_a_request_in_the_last_sentence_of_a_long_letter_is_read(tokenizer: TextTokenizer, plain: Tokenizer) -> None:
    request = "So please cancel my subscription and send my money back."
    letter = "Thank you for the pleasant talk of last week, which I remember well. " * 30 + request
    assert len(letter) > 2000
    found = read(tokenizer, letter)
    assert (len(found.ids), found.truncated) == (256, True)
    wanted = plain.encode(request, add_special_tokens=False).ids
    assert found.ids[-1 - len(wanted) : -1] == wanted


@pytest.mark.parametrize("max_tokens", [5, 8, 13])
def test_of_a_long_pair_as_much_of_each_text_is_read_as_where_ends_are_cut(vocabulary: Path, max_tokens: int) -> None:
    tokenizer, cut = TextTokenizer(vocabulary, max_tokens), Tokenizer.from_file(str(vocabulary))
    cut.no_padding()
    cut.enable_truncation(max_tokens, strategy="longest_first")
    for n_first, n_second in product(range(15), repeat=2):
        first, second = " ".join(numbered(n_first)), " ".join(numbered(n_second, offset=5))
        want, found = cut.encode(first, second), read(tokenizer, first, second)
        assert found.type_ids == want.type_ids
        assert found.truncated == (n_first + n_second + 3 > max_tokens) == bool(want.overflowing)
        assert [token for token in found.ids if token in {101, 102}] == [101, 102, 102]


def test_of_a_long_pair_both_ends_of_each_text_are_read(vocabulary: Path, plain: Tokenizer) -> None:
    first, second = numbered(50), numbered(60, offset=5)
    found = read(TextTokenizer(vocabulary, 23), " ".join(first), " ".join(second))
    head = round(10 * HEAD_SHARE)
    kept = [" ".join(words[:head] + words[len(words) - (10 - head) :]) for words in (first, second)]
    want = plain.encode(kept[0], kept[1])
    assert (found.ids, found.type_ids) == (want.ids, want.type_ids)


@pytest.mark.parametrize("max_tokens", [0, 1, 2, 3, 4])
def test_a_limit_that_leaves_room_for_next_to_nothing_keeps_the_framing_tokens(
    vocabulary: Path, max_tokens: int
) -> None:
    found = read(TextTokenizer(vocabulary, max_tokens), "my card is late")
    assert len(found.ids) == max(2, max_tokens)
    assert (found.ids[0], found.ids[-1]) == (101, 102)


class Watched:
    """A tokenizer that notes how many characters it is given."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.chars = 0

    def encode_batch(self, texts: list[str | tuple[str, str]]) -> object:
        self.chars += sum(len("".join(text)) for text in texts)
        return self.tokenizer.encode_batch(texts)


@pytest.mark.parametrize("middle", ["a pleasant talk, ", "x", "\n", "😍", "我"])
def test_of_a_text_of_millions_of_characters_few_reach_the_tokenizer(
    vocabulary: Path, monkeypatch: pytest.MonkeyPatch, middle: str
) -> None:
    tokenizer = TextTokenizer(vocabulary, 64)
    watched = Watched(tokenizer._tokenizer)
    monkeypatch.setattr(tokenizer, "_tokenizer", watched)
    text = "Hello. " + middle * (4_000_000 // len(middle)) + " Please refund my order."
    for found in (read(tokenizer, text), read(tokenizer, "my card", text)):
        assert len(found.ids) <= 64
        assert found.truncated == (middle != "\n"), "white space is no part of a text"
        end = read(tokenizer, "refund my order.").ids[1:]
        assert found.ids[-len(end) :] == end
    assert watched.chars < 10_000


def test_a_bound_on_characters_does_not_change_which_tokens_are_read(vocabulary: Path, plain: Tokenizer) -> None:
    words = numbered(5000)
    found = read(TextTokenizer(vocabulary, 64), " ".join(words))
    head = round(62 * HEAD_SHARE)
    assert found.ids == plain.encode(" ".join(words[:head] + words[len(words) - (62 - head) :])).ids


def test_white_space_around_a_text_cuts_nothing(vocabulary: Path) -> None:
    tokenizer = TextTokenizer(vocabulary, 8)
    found = read(tokenizer, "\n" * 5000 + "where is my card" + " " * 5000)
    assert found == read(tokenizer, "where is my card")
    # Two words that the white space parts stay two
    apart = read(tokenizer, "foot" + " " * 5000 + "ball")
    assert apart == read(tokenizer, "foot ball")
    assert apart.ids != read(tokenizer, "football").ids


def test_words_of_the_tests_are_one_token_each(plain: Tokenizer) -> None:
    assert all(len(plain.encode(word).ids) == 3 for word in WORDS)
    assert all(one != other for one, other in pairwise(numbered(60)))


def test_normalising_in_pieces_is_normalising_as_a_whole() -> None:
    texts = [
        "ｒｅｆｕｎｄ　ｍｙ　ｏｒｄｅｒ",
        "cafe\u0301 re\u0301sume\u0301",
        "한글 각",
        "ﬁne ½ ™ …",
        "a \u0301b",
        "ｶﾞ",
    ]
    for text in (*texts, " ".join(texts) * 20):
        assert nfkc(text) == unicodedata.normalize("NFKC", text)


def test_a_run_of_combining_marks_is_normalised_in_pieces() -> None:
    marks = "a" + "\u0316\u0301" * 5000
    assert len(nfkc(marks)) >= len(marks) - 1
