# The public names: `ncbench.__getattr__` reads this file, and loads each on first use.
from . import evaluation as evaluation
from .cleaning.api import find_mismatched as find_mismatched
from .data.dataset import Captions as Captions
from .data.dataset import Dataset as Dataset
from .data.dataset import ImageFeatures as ImageFeatures
from .data.dataset import Split as Split
from .data.splices import Splices as Splices
from .data.training_view import Batch as Batch
from .data.training_view import TrainingView as TrainingView
from .data.vocabulary import Vocabulary as Vocabulary
from .errors import UserError as UserError
from .evaluation import evaluate as evaluate
from .method import evidence as evidence
from .method import losses as losses
from .method import mixture as mixture
from .method import scans as scans
from .method import schedules as schedules
from .method import transport as transport
from .method.base import Method as Method
from .method.base import Plan as Plan
from .method.base import Rematches as Rematches
from .method.base import Task as Task
from .method.optimiser import Optimiser as Optimiser
from .method.settings import Settings as Settings
from .method.settings import TrainingSettings as TrainingSettings
from .method.settings import setting as setting
from .method.single_network import SingleNetwork as SingleNetwork
from .noise.base import Drawn as Drawn
from .noise.base import NoiseProtocol as NoiseProtocol
from .noise.base import NoiseRequest as NoiseRequest
from .records.table import load_runs as load_runs
from .sweeps.api import run as run

__version__: str
