"""The errors users read: each a sentence, each in the tree, each whole after a journey between processes."""

from __future__ import annotations

import errno
import pickle
import re
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import errors
from infra.errors import UNEXPECTED, BadRequest, DiskFull, Passing, Permanent, UserError, disk_writes, told


def tree(root: type[UserError]) -> list[type[UserError]]:
    below = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(error for child in below for error in tree(child))]


EVERY_ERROR = tree(UserError)
NUMBERS = {"seconds": 1.25, "limit_mb": 500, "times": 3}


def field_names(error: type[UserError]) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(error.__doc__ or "") if name]


def sample(error: type[UserError]) -> UserError:
    """The error with fields as its raisers give them: a field that ends the sentence is a sentence itself."""
    doc = (error.__doc__ or "").strip()
    names = field_names(error)
    words = {name: f"The {name} is gone." if doc.endswith(f"{{{name}}}") else f"Some {name}" for name in names}
    return error(**{name: NUMBERS.get(name, word) for name, word in words.items()})


every_error = pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: error.__name__)


@every_error
def test_every_error_has_a_sentence_of_its_own(error: type[UserError]) -> None:
    assert "__doc__" in vars(error)
    assert vars(error)["__doc__"]
    sentence = str(sample(error))
    assert re.fullmatch(r"[A-Z\"].*[.\"]", sentence), sentence
    assert "  " not in sentence
    assert "{" not in sentence
    assert "\n" not in sentence


@every_error
def test_every_field_of_an_error_is_read_by_its_user(error: type[UserError]) -> None:
    sentence = str(sample(error))
    for name, value in sample(error).fields.items():
        assert name in NUMBERS or str(value) in sentence
    if field_names(error):
        with pytest.raises(KeyError):
            error()


@every_error
def test_every_error_survives_a_journey_to_another_process(error: type[UserError]) -> None:
    before = sample(error)
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert (str(after), after.fields, after.kind, after.advice) == (
        str(before),
        before.fields,
        before.kind,
        before.advice,
    )


@every_error
def test_every_error_says_whether_trying_again_may_help(error: type[UserError]) -> None:
    if error is not UserError:
        assert issubclass(error, Permanent) != issubclass(error, Passing)
        assert error.kind == ("permanent" if issubclass(error, Permanent) else "passing")
    assert not error.advice.endswith(".")
    assert error.advice or not issubclass(error, Passing)


def test_every_error_stands_in_the_modules_tree_below_its_parent() -> None:
    parents: dict[str, str] = {}
    last = {0: UserError.__name__}  # the last name in each column
    for line in (errors.__doc__ or "").splitlines():
        if names := re.findall(r"[├└]── (\w+)", line):
            column = re.search("[├└]", line).start()  # pyright: ignore
            parents |= dict.fromkeys(names, last[column - 4])
            last[column] = names[-1]
    assert parents == {error.__name__: error.__bases__[0].__name__ for error in EVERY_ERROR[1:]}


@given(st.text())
def test_what_a_field_holds_is_told_as_it_is(text: str) -> None:
    assert str(BadRequest(what=text)) == text
    assert str(errors.BadLink(link=text)) == f'"{text}" is not a link to a YouTube video.'


def test_a_user_error_is_told_as_itself() -> None:
    for error in EVERY_ERROR:
        raised = sample(error)
        assert told(raised) is raised


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such(number: int) -> None:
    full = OSError(number, "secret path", "/var/secret")
    assert isinstance(told(full), DiskFull)
    with pytest.raises(DiskFull, match="the upload") as caught, disk_writes("the upload"):
        raise full
    assert caught.value.__cause__ is full


@pytest.mark.parametrize(
    "bug",
    [ValueError("secret"), KeyError("secret"), PermissionError(errno.EACCES, "secret"), KeyboardInterrupt(), OSError()],
    ids=lambda bug: type(bug).__name__,
)
def test_a_bug_is_told_without_its_details(bug: BaseException) -> None:
    error = told(bug)
    assert str(error) == UNEXPECTED
    assert error.kind == "passing"


def test_other_errors_of_a_disk_pass_through() -> None:
    with pytest.raises(PermissionError), disk_writes("the upload"):
        raise PermissionError(errno.EACCES, "no")


def test_an_error_whose_docstring_was_stripped_still_has_a_sentence() -> None:
    """`python -OO` strips docstrings."""
    bare: Any = type("Bare", (BadRequest,), {"__doc__": None, "__module__": __name__})
    assert str(bare(what="x")) == UNEXPECTED
