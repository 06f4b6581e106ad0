"""Too little memory is said as that, and not as a damaged file, a broken disk or a traceback."""

from __future__ import annotations

import errno

import duckdb
import pytest

from flows import cli
from flows.out_of_memory import ADVICE
from imsr_core.errors import ImsrError
from pipelines.warehouse.sandbox import define_views


def said_of(error: Exception, monkeypatch, capsys) -> tuple[object, str]:
    """Exit code and standard error of a command that fails so."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.run_command()
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        duckdb.OutOfMemoryException("Out of Memory Error: Allocation failure"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
)
def test_a_want_of_memory_is_no_traceback(error, monkeypatch, capsys):
    code, said = said_of(error, monkeypatch, capsys)
    assert code == 1
    assert said.startswith("error: out of memory: ")
    assert ADVICE in said


def test_views_for_which_there_is_no_memory_are_not_called_broken(monkeypatch, capsys):
    class Small:
        def extract_statements(self, text: str) -> list[object]:
            raise duckdb.OutOfMemoryException("Out of Memory Error: Allocation failure")

    with pytest.raises(ImsrError) as caught:
        define_views(Small(), "")  # type: ignore[arg-type]
    _, said = said_of(caught.value, monkeypatch, capsys)
    assert ADVICE in said
    assert "imsr views" not in said


def test_who_knows_which_setting_it_is_says_so(monkeypatch, capsys):
    error = ImsrError("out of memory", hint="raise [ingest] memory_limit_mb")
    error.__cause__ = MemoryError()
    _, said = said_of(error, monkeypatch, capsys)
    assert "raise [ingest] memory_limit_mb" in said
    assert ADVICE not in said


def test_another_error_keeps_its_words(monkeypatch, capsys):
    with pytest.raises(RuntimeError, match="a bug"):
        cli_fails(RuntimeError("a bug"), monkeypatch)
    assert said_of(ImsrError("a file", hint="mend it"), monkeypatch, capsys)[1].splitlines() == [
        "error: a file",
        "  -> mend it",
    ]


def cli_fails(error: Exception, monkeypatch) -> None:
    """A command that fails so, without an end of the process."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    cli.run_command()
