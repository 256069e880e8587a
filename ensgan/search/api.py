"""The public names of the search."""

from ensgan.search.constraints import Budget, Constraints
from ensgan.search.evaluator import Evaluator
from ensgan.search.forms import FORMS, FormInputs, ObjectiveForm, Ratio, ScoredFeatures, find_form
from ensgan.search.forms.density_coverage import tables_from_precision_recall, tables_from_scores
from ensgan.search.forms.frechet import frechet_tables, union_moments
from ensgan.search.pareto import hypervolume, pareto_front
from ensgan.search.pools import CONFIDENCE, check_comparable, estimates_on, pairs_to_score, pool_key
from ensgan.search.rescoring import bootstrap as bootstrap
from ensgan.search.rescoring import evaluator_of as evaluator_of
from ensgan.search.rescoring import optimise_weights as optimise_weights
from ensgan.search.rescoring import rescore as rescore
from ensgan.search.rescoring import shared_members as shared_members
from ensgan.search.sampler import SAMPLERS, Sampler, samplers
from ensgan.search.selection import RULES, SelectionRule, cautions, member_intra_d, rules, select
from ensgan.search.tables import THIRDS, ObjectiveTables, ThirdObjective
