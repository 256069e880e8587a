"""How plain MLflow loads a registered ensemble: ``mlflow.pyfunc.load_model("models:/NAME@ALIAS")``.

The ``MLmodel`` file that ``ensgan promote`` adds names this module as the loader, so MLflow needs
ensgan installed, unpickles nothing, and the same checks run as in :func:`load_ensemble`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ensgan.ensemble.artifact import open_folder
from ensgan.ensemble.ensemble import Ensemble
from ensgan.ensemble.members import ImageRequest
from ensgan.errors import InputError, problem_of
from ensgan.types.display import png_base64

LOADER = __name__


class EnsembleModel:
    """MLflow's view of an ensemble: requests in, one row per image out."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def predict(self, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """Make images.

        Args:
            model_input: a mapping or a table of requests with ``n`` and, if wanted, ``labels``,
                ``seed`` and ``replacement`` (see :meth:`Ensemble.sample`).
            params: not used.

        Returns:
            for each image: ``image`` (PNG, base64), ``label``, ``class`` and ``member``.

        Raises:
            InputError: a request is incomplete or out of range.
        """
        rows = []
        for request in _requests(model_input):
            samples = self.ensemble.sample(**request)
            makers = [] if samples.members is None else samples.members.tolist()
            rows += [
                {
                    "image": png_base64(picture),
                    "label": label,
                    "class": self.ensemble.class_names[label],
                    "member": samples.member_names[maker],
                }
                for picture, label, maker in zip(
                    samples.to_pil(), samples.labels.tolist(), makers, strict=True
                )
            ]
        return rows


def _load_pyfunc(path: str, model_config: Any = None) -> EnsembleModel:
    """Called by MLflow with the folder of the model."""
    return EnsembleModel(open_folder(Path(path)))


def _requests(value: Any) -> list[dict[str, Any]]:
    """Requests from a mapping or a pandas table."""
    entries = [value] if isinstance(value, Mapping) else value.to_dict(orient="records")
    requests = []
    for entry in entries:
        # A table has nan where a record lacks a column.
        given = {name: part for name, part in entry.items() if not _is_nan(part)}
        try:
            requests.append(ImageRequest.model_validate(given).model_dump())
        except ValidationError as error:
            problem = problem_of(error.errors()[0])
            raise InputError(
                f"a request holds n, labels, seed and replacement: {problem}"
            ) from error
    return requests


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
