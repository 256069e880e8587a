"""The public names of the search."""

from __future__ import annotations

from ensgan.search.constraints import Budget as Budget
from ensgan.search.constraints import Constraints as Constraints
from ensgan.search.evaluator import Evaluator as Evaluator
from ensgan.search.forms import FORMS as FORMS
from ensgan.search.forms import FormInputs as FormInputs
from ensgan.search.forms import ObjectiveForm as ObjectiveForm
from ensgan.search.forms import Ratio as Ratio
from ensgan.search.forms import ScoredFeatures as ScoredFeatures
from ensgan.search.forms import find_form as find_form
from ensgan.search.forms.frechet import UnionMoments as UnionMoments
from ensgan.search.forms.frechet import frechet_tables as frechet_tables
from ensgan.search.forms.frechet import union_moments as union_moments
from ensgan.search.forms.paper import tables_from_scores as tables_from_scores
from ensgan.search.forms.precision_recall import (
    tables_from_precision_recall as tables_from_precision_recall,
)
from ensgan.search.near_front import CONFIDENCE as CONFIDENCE
from ensgan.search.near_front import estimates_on as estimates_on
from ensgan.search.near_front import pairs_to_score as pairs_to_score
from ensgan.search.pareto import hypervolume as hypervolume
from ensgan.search.pareto import pareto_front as pareto_front
from ensgan.search.rescoring import FrontConfidence as FrontConfidence
from ensgan.search.rescoring import Interval as Interval
from ensgan.search.rescoring import bootstrap as bootstrap
from ensgan.search.rescoring import evaluator_of as evaluator_of
from ensgan.search.rescoring import optimise_weights as optimise_weights
from ensgan.search.rescoring import rescore as rescore
from ensgan.search.rescoring import shared_members as shared_members
from ensgan.search.sampler import SAMPLERS as SAMPLERS
from ensgan.search.sampler import Sampler as Sampler
from ensgan.search.sampler import samplers as samplers
from ensgan.search.selection import RULES as RULES
from ensgan.search.selection import SelectionRule as SelectionRule
from ensgan.search.selection import cautions as cautions
from ensgan.search.selection import member_intra_d as member_intra_d
from ensgan.search.selection import rules as rules
from ensgan.search.selection import select as select
from ensgan.search.tables import THIRDS as THIRDS
from ensgan.search.tables import ObjectiveTables as ObjectiveTables
from ensgan.search.tables import ThirdObjective as ThirdObjective
from ensgan.search.tables import check_comparable as check_comparable
from ensgan.search.tables import check_pool as check_pool
from ensgan.search.tables import pool_key as pool_key
