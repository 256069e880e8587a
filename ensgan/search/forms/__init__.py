"""The forms of the two objectives, a file for each kind.

A new form is a file with one :class:`ObjectiveForm` and a line below, or an entry point of the
group ``ensgan.objectives`` in another package.
"""

from __future__ import annotations

from ensgan.registry import Registry
from ensgan.search.forms.density_coverage import CAPPED, PAPER, PRECISION_RECALL
from ensgan.search.forms.form import COMPONENTS, FormInputs, ObjectiveForm, Ratio, ScoredFeatures
from ensgan.search.forms.frechet import FRECHET
from ensgan.types import form_name

FORMS = Registry(
    "form of the objectives",
    "ensgan.objectives",
    ObjectiveForm,
    (PAPER, CAPPED, PRECISION_RECALL, FRECHET),
)


def find_form(name: str) -> ObjectiveForm:
    """The form of that name; names of earlier versions are read too.

    Raises:
        InputError: there is none.
    """
    return FORMS.get(form_name(name))
