"""Outside generators: Python, TorchScript and torch.export files, and what they may return."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ensgan.ensemble.external import describe, draw_bank, open_sampler
from ensgan.errors import InputError

LABELS = np.arange(10, dtype=np.int64) % 2

PLUGIN = """
import numpy as np
import torch

def sample(n, labels, seed):
    noise = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (noise + torch.as_tensor(labels)[:, None, None, None]) / 2

class Model:
    def sample(self, n, labels, seed):
        return np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)

model = Model()
number = 3

def fails(n, labels, seed):
    raise RuntimeError("out of paint")
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return path


def test_a_function_and_an_object_of_a_file(plugin: Path) -> None:
    sampler = open_sampler(str(plugin))
    images = draw_bank(sampler, LABELS, seed=3, batch=4)
    assert images.shape == (10, 8, 8) and images.dtype == np.uint8
    assert images[LABELS == 1].min() >= 127 > images[LABELS == 0].mean()
    assert describe(str(plugin))["file"] == "mine.py" and len(describe(str(plugin))["sha256"]) == 64
    again = draw_bank(open_sampler(f"{plugin}:sample"), LABELS, seed=3, batch=4)
    np.testing.assert_array_equal(again, images)
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10  # batches have seeds of their own
    assert not np.array_equal(draw_bank(sampler, LABELS, seed=4, batch=4), images)
    colour = draw_bank(open_sampler(f"{plugin}:model"), LABELS)
    assert colour.shape == (10, 8, 8, 3)


class Scripted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def sample(self, n: int, labels: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.rand(n, 1, 8, 8) * 2 - 1 + 0 * labels[0]


class Exported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([[0.0], [1.0]]))

    def forward(self, labels: Tensor) -> Tensor:
        noise = torch.rand(labels.shape[0], 1, 8, 8)
        return (noise + self.shift[labels][..., None, None]) / 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_and_torch_export_files(tmp_path: Path) -> None:
    torch.jit.script(Scripted()).save(str(tmp_path / "gan.pt"))
    program = torch.export.export(Exported(), (torch.zeros(4, dtype=torch.int64),))
    torch.export.save(program, tmp_path / "gan.pt2")
    for name in ("gan.pt", "gan.pt2"):
        state = torch.get_rng_state()
        sampler = open_sampler(str(tmp_path / name))
        images = draw_bank(sampler, LABELS, seed=1, batch=4)  # the last batch is filled up
        assert images.shape == (10, 8, 8)
        np.testing.assert_array_equal(draw_bank(sampler, LABELS, seed=1, batch=4), images)
        assert len(np.unique(images.reshape(10, -1), axis=0)) == 10
        assert torch.equal(torch.get_rng_state(), state), "the caller's generator is left alone"
    assert images[LABELS == 1].min() >= 127
    torch.jit.script(nn.Identity()).save(str(tmp_path / "other.pt"))
    with pytest.raises(InputError, match=r"no method sample\(n, labels, seed\)"):
        open_sampler(str(tmp_path / "other.pt"))


def test_references_that_cannot_be_opened(plugin: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    (tmp_path / "damaged.pt2").write_bytes(b"PK\x03\x04 no program")
    for reference, message in {
        f"{plugin}:smaple": "did you mean 'sample'",
        f"{plugin}:number": "is no function",
        f"{plugin}:Model": "is no function",
        str(tmp_path / "absent.py"): "no such file",
        str(broken): "ZeroDivisionError: division by zero",
        str(tmp_path / "damaged.pt2"): "cannot be loaded",
        "no_such_package.of:mine": "ModuleNotFoundError",
    }.items():
        with pytest.raises(InputError, match=message):
            open_sampler(reference)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.zeros((9, 8, 8), np.uint8), r"asked for 10 images and returned uint8 \[9, 8, 8\]"),
        (np.zeros((10, 64), np.uint8), "returned uint8"),
        (np.zeros((10, 8, 8), np.int64), "returned int64"),
        (np.full((10, 8, 8), 200.0), "values from 200 to 200"),
        (np.full((10, 8, 8), np.nan), "nan"),
        (None, "returned object"),
    ],
)
def test_what_is_no_image_is_refused(made: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_bank(lambda n, labels, seed: made, LABELS)


def test_ranges_and_failures(plugin: Path) -> None:
    signed = np.linspace(-1, 1, 10 * 64).reshape(10, 8, 8)
    auto = draw_bank(lambda n, labels, seed: signed, LABELS, batch=10)
    assert (auto.min(), auto.max()) == (0, 255)
    unit = draw_bank(lambda n, labels, seed: signed / 2 + 0.5, LABELS, batch=10)
    np.testing.assert_array_equal(auto, unit)
    cut = draw_bank(lambda n, labels, seed: signed / 4, LABELS, batch=10, value_range="unit")
    assert (cut.min(), cut.max()) == (0, 64)
    with pytest.raises(InputError, match="did you mean 'signed'"):
        draw_bank(lambda n, labels, seed: signed, LABELS, value_range="singed")
    with pytest.raises(InputError, match=r"failed on 10 images: RuntimeError: out of paint"):
        draw_bank(open_sampler(f"{plugin}:fails"), LABELS, batch=10)
    with pytest.raises(InputError, match="give 1 or more"):
        draw_bank(open_sampler(str(plugin)), LABELS[:0])


def test_habits_of_samplers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They print while they load and work, and return (images, labels); scripts end with exit."""
    path = tmp_path / "habits.py"
    path.write_text(
        "import numpy as np\n"
        "print('loading weights')\n"
        "def pair(n, labels, seed):\n"
        "    print('working')\n"
        "    return np.zeros((n, 8, 8), np.uint8) + labels[:, None, None].astype('u1'), labels\n"
        "def other(n, labels, seed): return pair(n, labels, seed)[0], labels + 1\n"
        "def leaves(n, labels, seed): raise SystemExit('bye')\n"
    )
    images = draw_bank(open_sampler(f"{path}:pair"), LABELS, batch=4)
    np.testing.assert_array_equal(images[:, 0, 0], LABELS)
    said = capsys.readouterr()
    assert said.out == "" and "loading weights" in said.err and "working" in said.err
    with pytest.raises(InputError, match="what the sampler returned is no array of images"):
        draw_bank(open_sampler(f"{path}:other"), LABELS)
    with pytest.raises(InputError, match="failed on 10 images: SystemExit: bye"):
        draw_bank(open_sampler(f"{path}:leaves"), LABELS)
    script = tmp_path / "script.py"
    script.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(InputError, match="cannot be loaded: SystemExit: 3"):
        open_sampler(str(script))
