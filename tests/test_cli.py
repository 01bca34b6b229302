"""The command line: files, messages, exit codes."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import random_inputs, random_network

import gradsplinter
from gradsplinter import (
    _C,
    ReluNetwork,
    SplinterTable,
    Store,
    cli,
    extraction,
    io,
    regions,
    splinter,
)
from gradsplinter.plot import field_study

UMASK = os.umask(0)
os.umask(UMASK)

TINY = "--lambdas 0 0.5 --seeds 0 1 --steps 5 --training-examples 60 --validation-examples 40"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gradsplinter", *arguments])
    cli.main()


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes longer than all else."""
    monkeypatch.setattr("gradsplinter.plot.mixing.figures", lambda _: {})


@pytest.fixture
def out(tmp_path, monkeypatch, no_figures):  # noqa: ARG001
    path = tmp_path / "mixing"
    run(monkeypatch, "mixing", *TINY.split(), "--out", str(path))
    return path


def test_mixing_writes_tables_networks_and_figures(tmp_path, monkeypatch, capsys):
    out = tmp_path / "mixing"
    run(monkeypatch, "mixing", *TINY.split(), "--out", str(out))
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {
        "config.json",
        "losses.npy",
        "results.csv",
        *(f"{name}.{suffix}" for name in ("orthogonality", "similarity", "training")
          for suffix in ("png", "pdf")),
        *(f"networks/lambda-{v}-seed-{s}.safetensors" for v in ("0", "0.5") for s in (0, 1)),
    }  # fmt: skip
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (4 + 4 + 2) * 3
    written = json.loads((out / "config.json").read_text())
    assert written["config"]["seeds"] == [0, 1]
    assert written["versions"]["gradsplinter"] == gradsplinter.__version__
    printed = capsys.readouterr().out
    assert "Mean distance from theory at the input" in printed
    assert str(out) in printed


@pytest.mark.usefixtures("no_figures")
def test_a_second_run_uses_the_networks_of_the_first(out, monkeypatch, capsys):
    before = {p.name: p.read_bytes() for p in (out / "networks").iterdir()}
    table = (out / "results.csv").read_text()
    capsys.readouterr()
    monkeypatch.setattr(
        "gradsplinter.studies.mixing.train", lambda *_, **__: pytest.fail("trained")
    )
    run(monkeypatch, "mixing", *TINY.split(), "--out", str(out))
    assert "using the 4 trained networks" in capsys.readouterr().out
    assert {p.name: p.read_bytes() for p in (out / "networks").iterdir()} == before
    assert (out / "results.csv").read_text() == table


@pytest.mark.usefixtures("no_figures")
def test_another_configuration_is_not_overwritten(out, monkeypatch, capsys):
    before = (out / "config.json").read_text()
    other = TINY.replace("--steps 5", "--steps 6").split()
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "mixing", *other, "--out", str(out))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "another configuration (steps 5 there, 6 now)" in message
    assert "--overwrite" in message
    assert (out / "config.json").read_text() == before
    run(monkeypatch, "mixing", *other, "--out", str(out), "--overwrite")
    assert json.loads((out / "config.json").read_text())["config"]["steps"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lambdas", "0", "2"], "lambdas must be in [0, 1], got 2"),
        (["--steps", "0"], "steps must be"),
    ],
)
def test_bad_values_are_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "mixing", *arguments, "--out", str(tmp_path / "x"))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_is_no_result_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "mixing", *TINY.split(), "--out", str(tmp_path))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert "out must be a new folder or one of an earlier run" in message
    assert "--overwrite" not in message
    with pytest.raises(SystemExit):
        run(monkeypatch, "mixing", *TINY.split(), "--out", str(tmp_path), "--overwrite")
    assert (tmp_path / "thesis.tex").read_text() == "ten years of work"


def flip_a_sign(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x80
    path.write_bytes(data)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_files_of_the_user_stay(out, overwrite, monkeypatch):
    (out / "notes.md").write_text("mine")
    run(monkeypatch, "mixing", *TINY.split(), "--out", str(out), *overwrite)
    assert (out / "notes.md").read_text() == "mine"


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "damage",
    [
        lambda out: (out / "losses.npy").unlink(),
        lambda out: (out / "losses.npy").write_bytes(b"damaged"),
        lambda out: (out / "networks" / "lambda-0-seed-1.safetensors").unlink(),
        lambda out: (out / "networks" / "lambda-0-seed-1.safetensors").write_bytes(b"damaged"),
        lambda out: flip_a_sign(out / "networks" / "lambda-0-seed-1.safetensors"),
        lambda out: (out / "networks" / "lambda-0-seed-0.safetensors").replace(
            out / "networks" / "lambda-0-seed-1.safetensors"
        ),
        lambda out: (out / "config.json").write_text('{"config": null}'),
        lambda out: (out / "config.json").write_text("{"),
    ],
)
def test_a_damaged_run_is_named_and_can_be_replaced(out, damage, monkeypatch, capsys):
    damage(out)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "mixing", *TINY.split(), "--out", str(out))
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "--overwrite" in message
    run(monkeypatch, "mixing", *TINY.split(), "--out", str(out), "--overwrite")
    assert (out / "networks" / "lambda-0-seed-1.safetensors").is_file()


@pytest.mark.usefixtures("no_figures")
def test_close_strengths_have_networks_of_their_own(tmp_path, monkeypatch):
    options = [
        "--lambdas",
        "0.1234561",
        "0.1234562",
        "--seeds",
        "0",
        "--steps",
        "2",
        "--training-examples",
        "20",
    ]
    run(
        monkeypatch, "mixing", *options, "--validation-examples", "20", "--out", str(tmp_path / "x")
    )
    assert len(list((tmp_path / "x" / "networks").iterdir())) == 2


@pytest.mark.usefixtures("no_figures")
def test_dead_networks_are_pointed_out(tmp_path, monkeypatch, capsys):
    options = ["--lambdas", "0", "0.5", "--seeds", "0", "--steps", "50", "--learning-rate", "100"]
    sizes = ["--training-examples", "50", "--validation-examples", "30"]
    run(monkeypatch, "mixing", *options, *sizes, "--out", str(tmp_path / "x"))
    assert "gradients are zero, which counts as orthogonal" in capsys.readouterr().out


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gradsplinter.studies.mixing.train", interrupt)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "mixing", *TINY.split(), "--out", str(tmp_path / "x"))
    assert stopped.value.code == 130
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("gradsplinter.cli.mixing.run_mixing", lambda *_, **__: pytest.fail("began"))
    for place, message in (
        ("file", "--out must be a new or empty folder, got"),
        ("file/below", "--out must be a folder that can be written"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run(monkeypatch, "mixing", *TINY.split(), "--out", str(tmp_path / place))
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_two_runs_into_one_folder_at_once(tmp_path, monkeypatch, capsys):
    with io.only_writer(tmp_path / "x"), pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "mixing", *TINY.split(), "--out", str(tmp_path / "x"))
    assert stopped.value.code == 2
    assert "--out must be a folder that nobody else writes to" in capsys.readouterr().err


@pytest.mark.usefixtures("no_figures")
def test_what_a_killed_run_has_left_is_removed(tmp_path, monkeypatch):
    for left in (".x.0a1b.tmp", ".y.0a1b.tmp", ".x.alive.tmp"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "losses.npy").write_text("half of it")
    with io.only_writer(tmp_path / ".x.alive.tmp"):
        run(monkeypatch, "mixing", *TINY.split(), "--out", str(tmp_path / "x"))
    assert {p.name for p in tmp_path.iterdir()} == {"x", ".y.0a1b.tmp", ".x.alive.tmp"}


def test_extract_after_ctrl_c(data, monkeypatch, capsys):
    def interrupted(*arguments, **options):
        extraction.extract(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.tables, "extract", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "extract", str(data / "net.safetensors"), str(data / "a.npy"),
            "-o", str(data / "o"))  # fmt: skip
    assert stopped.value.code == 130
    expected = f"interrupted; 600 examples are in {data / 'o'}; the same command goes on from there"
    assert capsys.readouterr().err.strip() == expected


def test_modes_and_kinds_of_files(data):
    with pytest.raises(OSError, match="Is a directory"):
        ReluNetwork.load(data)
    assert (data / "net.safetensors").stat().st_mode & 0o777 == 0o666 & ~UMASK


def test_version(monkeypatch, capsys):
    run(monkeypatch, "--version")
    assert capsys.readouterr().out == f"gradsplinter {gradsplinter.__version__}\n"


def test_info_as_a_command_which_does_not_load_matplotlib():
    script = (
        "import atexit, runpy, sys; sys.argv = ['gradsplinter', 'info'];"
        "atexit.register(lambda: print('matplotlib' in sys.modules));"
        "runpy.run_module('gradsplinter.cli', run_name='__main__')"
    )
    info = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "portable" in info.stdout
    assert "CUDA" in info.stdout
    assert info.stdout.split()[-1] == "False"


@pytest.mark.parametrize(
    ("built", "why_not", "said"),
    [
        ("80-real 90", "", "usable"),
        ("native", "no kernel image", "not usable: no kernel image"),
        ("", "", "not usable: no kernels were built in"),
    ],
)
def test_info_says_which_gpus_are_usable(monkeypatch, capsys, built, why_not, said):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(_C, "cuda", built)
    monkeypatch.setattr(_C, "why_not_on_gpu", lambda _: why_not, raising=False)
    run(monkeypatch, "info")
    assert f"cuda:0: NVIDIA H200 (9.0), {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["get_device_capability", "get_device_name", "why_not_on_gpu"])
def test_info_on_a_gpu_that_nothing_can_use(monkeypatch, capsys, broken):
    def fail(device):
        raise RuntimeError(f"The NVIDIA driver on your system is too old ({device}).\nUpdate it.")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(_C, "cuda", "90")
    monkeypatch.setattr(_C, "why_not_on_gpu", lambda _: "", raising=False)
    monkeypatch.setattr(_C if broken == "why_not_on_gpu" else torch.cuda, broken, fail)
    run(monkeypatch, "info")
    said = capsys.readouterr().out
    for device in range(2):
        reason = f"The NVIDIA driver on your system is too old ({device})."
        assert f"cuda:{device}: not usable: {reason}\n" in said
    assert "Update" not in said


@pytest.fixture
def data(tmp_path):
    """A network, and its data in two files."""
    net = random_network((4, 30, 3))
    net.save(tmp_path / "net.safetensors")
    for name, x in zip("ab", random_inputs(1000, 4).split(600), strict=True):
        np.save(tmp_path / f"{name}.npy", x.numpy())
    return tmp_path


def test_extract_merge_and_info(data, monkeypatch, capsys):
    net = ReluNetwork.load(data / "net.safetensors")
    expected = splinter(net, random_inputs(1000, 4))
    for name in "ab":
        run(monkeypatch, "extract", str(data / "net.safetensors"), str(data / f"{name}.npy"),
            "-o", str(data / name))  # fmt: skip
    run(monkeypatch, "merge", str(data / "a"), str(data / "b"), "-o", str(data / "c"))
    capsys.readouterr()
    run(monkeypatch, "info", str(data / "c"))
    printed = capsys.readouterr().out
    assert "c: 2 parts" in printed
    assert "1,000" in printed
    assert f"{expected.n_modes:,}" in printed
    assert f"orthogonality     {expected.orthogonality():.4f}" in printed
    assert torch.equal(Store(data / "c").table().modes().counts, expected.counts)
    before = (data / "c" / "table.json").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "merge", str(data / "a"), "-o", str(data / "c"))
    assert stopped.value.code == 2
    assert "--out must be a new folder" in capsys.readouterr().err
    assert (data / "c" / "table.json").read_bytes() == before


def test_info_on_a_table_without_examples(tmp_path, monkeypatch, capsys):
    Store.create(tmp_path / "new", SplinterTable(random_network((4, 6, 2))))
    run(monkeypatch, "info", str(tmp_path / "new"))
    assert "0 parts\n  no examples yet\n" in capsys.readouterr().out


def test_extract_images_and_inner_sites(data, monkeypatch):
    images = (random_inputs(50, 4).abs() * 80).to(torch.uint8)
    np.save(data / "images.npy", images.numpy())
    run(monkeypatch, "extract", str(data / "net.safetensors"), str(data / "images.npy"),
        "--out", str(data / "i"), "--divisor", "255", "--source", "0", "--target", "1")  # fmt: skip
    net = ReluNetwork.load(data / "net.safetensors")
    expected = splinter(net, images, 0, 1, divisor=255)
    assert torch.equal(Store(data / "i").table().modes().signatures, expected.signatures)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["extract", "net.safetensors", "missing.npy", "-o", "x"],
            "error: DATA must be a .npy file",
        ),
        (
            ["extract", "missing.safetensors", "a.npy", "-o", "x"],
            "error: MODEL must be a network that ReluNetwork.save wrote: [Errno 2] No such file or directory: 'missing.safetensors'",
        ),
        (["extract", "a.npy", "a.npy", "-o", "x"], "path must be a safetensors file"),
        (["info", "missing"], "error: FOLDER must be the folder of a table"),
        (["merge", "missing", "-o", "x"], "error: FOLDER must be the folder of a table"),
    ],
)
def test_bad_files_are_one_line(arguments, message, data, monkeypatch, capsys):
    monkeypatch.chdir(data)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_communities_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["gradsplinter", "communities", "--out", "c", "--products", "2", "--lambdas", "0",
               "--seeds", "0", "--correlations", "0.5", "--steps", "20", "--examples", "256"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    cli.main()
    assert {path.name for path in (tmp_path / "c").iterdir()} == {
        "results.csv", "config.json", *(f"{name}.{end}" for name in ("communities", "controls")
                                        for end in ("png", "pdf")),
    }  # fmt: skip
    assert len((tmp_path / "c" / "results.csv").read_text().splitlines()) == 1 + 8
    printed = " ".join(capsys.readouterr().out.split())
    assert "in which some were found: " in printed
    assert all(word in printed for word in ("selectivity", "carrier", "0.999", "chained products"))
    with pytest.raises(SystemExit) as error:
        cli.main()
    assert error.value.code == 2
    assert "--out must be a new folder" in " ".join(capsys.readouterr().err.split())


FIELD = (
    "field --out f --seeds 0 1 --hidden 5 --steps 10 --examples 64 --mixing-seeds 2 "
    "--mixing-hidden 4 4 --no-sizes"
)


def test_the_field_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradsplinter.studies.field.FRAMES", 2)
    monkeypatch.setattr("gradsplinter.plot.regions.FRAMES_A_SECOND", 1)
    figures = (
        field_study.figures
    )  # of which those of the gate are drawn in tests/test_field_study.py
    monkeypatch.setattr(
        field_study,
        "figures",
        lambda result: {n: figure for n, figure in figures(result).items() if "gate" not in n},
    )
    run(monkeypatch, *FIELD.split(), "--tasks", "gate", "formula", "--expression", "x1 * exp(x2)")
    names = {path.relative_to("f").as_posix() for path in Path("f").rglob("*") if path.is_file()}
    tasks = ("gate", "formula")
    assert names == {
        "config.json",
        *(f"{name}.csv" for name in ("fields", "mixing", "switching", "counts", "sampled")),
        *(f"{name}.{end}" for name in ("field-formula", "regions-formula", "counts", "mixing")
          for end in ("png", "pdf")),
        *(f"training-{task}.gif" for task in tasks),
        *(f"networks/{task}-seed-{seed}.safetensors" for task in tasks for seed in (0, 1)),
    }  # fmt: skip
    with Path("f/fields.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["slice"], row["seed"]) for row in rows] == [
        *(("gate", f"gate = {gate}", seed) for seed in "01" for gate in ("0", "0.5", "1")),
        *(("formula", "x1 * exp(x2)", seed) for seed in "01"),
    ]
    net = ReluNetwork.load(Path("f/networks/gate-seed-1.safetensors"))
    again = regions.plane(net, [0, 0, 0.5], [1, 0, 0], [0, 1, 0])
    assert str(len(again)) == rows[4]["regions"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "gate, gate = 0.5" in printed
    assert "gate = 1: mean layer in which an input switches the others x1: " in printed
    assert "x1, x2 less than x1, x3 in" in printed
    assert "Written to f/ in" in printed
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *FIELD.split())
    assert stopped.value.code == 2
    assert "--out must be a new folder" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("field --expression log(x1)", "--expression must be finite on the unit cube"),
        ("field --expression -log(x1)", "--expression must be finite on the unit cube"),
        ("field --expression x1+", "--expression must be a formula, got 'x1+'"),
        ("field --expression foo(x1)", "--expression must use only the functions abs,"),
        ("field --tasks sum", "--tasks must be of products, gate, quotient, formula, got sum"),
        (
            "field --tasks gate --expression -x1*x2",
            "--expression must be left out where \"formula\" is not among the tasks, got '-x1*x2'",
        ),
        (
            "field --tasks --no-sizes",
            "--tasks must hold at least one value where sizes are left out",
        ),
        ("communities --training-examples 10", "--training-examples must be at least 256, got 10"),
        ("communities --seeds", "--seeds must hold at least one value, got none"),
        ("communities --correlations 0.5 3", "--correlations must be in [0, 1], got 3"),
        ("mixing --lambdas", "--lambdas must hold at least one value, got none"),
        ("mixing --learning-rate 0", "--learning-rate must be positive and at most 1e30, got 0"),
    ],
)
def test_bad_studies_leave_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments.split())
    assert stopped.value.code == 2
    assert f"error: {message}" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_formula_may_begin_with_a_minus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = []
    monkeypatch.setattr(
        "gradsplinter.cli.field.run_field", lambda config, **_: begun.append(config)
    )
    with pytest.raises(AttributeError):  # without results
        run(monkeypatch, "field", "--tasks", "formula", "--expression", "-x1*x2", "--no-sizes")
    assert begun[0].expression == "-x1*x2"


def test_a_communities_study_of_controls_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, *["communities", "--out", "c", "--products", "2", "--lambdas", "--correlations", "--seeds", "0", "--steps", "5", "--examples", "256"])  # fmt: skip
    assert {path.name for path in Path("c").iterdir()} == {
        "results.csv", "config.json", "controls.png", "controls.pdf",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cuda", "why"), [(None, ": this torch is built without CUDA"), ("13.0", "")]
)
def test_info_says_why_there_is_no_gpu(cuda, why, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    run(monkeypatch, "info")
    assert f"CUDA devices that torch sees: none{why}\n" in capsys.readouterr().out


def test_info_on_a_table_that_is_too_large_says_how_to_go_on(data, monkeypatch, capsys):
    run(
        monkeypatch,
        "extract",
        str(data / "net.safetensors"),
        str(data / "a.npy"),
        "-o",
        str(data / "a"),
    )
    monkeypatch.setattr("gradsplinter.splinters.IN_SUMMARY", 10)
    run(monkeypatch, "info", str(data / "a"))
    printed = capsys.readouterr().out
    assert "too many for this summary" in printed
    assert f"gradsplinter.Store('{data / 'a'}').table().splinters().orthogonality()" in printed
