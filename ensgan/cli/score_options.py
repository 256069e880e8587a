"""The options of ``ensgan score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

BackendOption: TypeAlias = Annotated[
    str, typer.Option(help="auto (the fastest present, measured once), torch or faiss.")
]
MemoryOption: TypeAlias = Annotated[
    float, typer.Option(help="Working memory, GB; of each task on Ray.")
]
FastOption: TypeAlias = Annotated[
    bool,
    typer.Option("--fast", help="TF32 on a GPU, no recheck of near-ties; its error is shown."),
]
ResamplesOption: TypeAlias = Annotated[
    int,
    typer.Option(
        help="Also score so many random parts of the points and images (200, say): what "
        "'ensgan select --bootstrap' needs for intervals of both objectives."
    ),
]
FrechetOption: TypeAlias = Annotated[
    bool | None,
    typer.Option(help="Fréchet distance too (seconds a member at 2048).  [default: up to 512]"),
]
InterOption: TypeAlias = Annotated[str, typer.Option(help="Overlap shown: symmetric or directed.")]
ExtractorOption: TypeAlias = Annotated[
    str, typer.Option(help="For folders of images: which network embeds them.")
]
WeightsOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="For folders of images: weight file of the extractor.")
]
HeldOutOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Real images never trained on (.npy features, or for a pool of images a folder of "
        "images): show memorisation.  [default: held_out/ of a pool of images]"
    ),
]
ExtendOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Scores of an earlier pool: only new members and pairs are computed."),
]
FreshOption: TypeAlias = Annotated[bool, typer.Option("--fresh", help="Forget an interrupted run.")]
CpusOption: TypeAlias = Annotated[
    float, typer.Option("--cpus-per-task", help="CPUs that a task on Ray reserves.")
]
GpusOption: TypeAlias = Annotated[
    float,
    typer.Option("--gpus-per-task", help="GPUs that a task on Ray reserves; 0.25 shares."),
]
