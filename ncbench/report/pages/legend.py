"""Explanations of the tables of a leaderboard, in markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncbench.report.tables.leaderboard import Leaderboard

ANSWERS_NOTE = """\
The lead is the difference in mean rSum to the next method, with its 95 % interval from a paired bootstrap over test
queries and seeds. An answer is sure if the best method is significantly better than every other over several seeds.
"""

LEGEND = """\
Recalls are percentages on the test split: *i2t* retrieves captions for an image, *t2i* images for a caption. *rSum* is
the sum of the six recalls. The best value of a column is bold, the second best underlined; ± is the standard deviation
over seeds. *Rank* is the interval of places that a method may have: 1 plus the number of methods that are significantly
better, to the number of all methods less those that are significantly worse, by a paired bootstrap over test queries
and seeds (95 % interval of the difference in rSum). Methods whose intervals overlap may well change places; because
pairs of methods are tested one by one, a lower rSum can come with a narrower interval. *Average* is the mean rSum over
the noisy ratios, *retained* its share of the rSum on clean pairs; both are - if a run is missing. *Budget used* is
training work in baseline epochs (epochs of plain triplet training), *training time* is in seconds; neither includes
evaluation. *Overhead* is the share of the training time outside the networks, such as optimal transport and mixture
models, which the budget does not count; (!) marks more than 20 %. Under *own epochs* each method trains for this many
of its own epochs, however much work that is, as papers do. A *self-reported budget* is that of a training outside
ncbench, which nobody bounded or counted; its training time is what its author stated. Tables with different noise units
are not comparable: `images` moves all captions of an image together, `captions` moves each caption separately, `words`
keeps captions in place and puts words of other captions into them, `pairs` changes for each pair its image or its
words. Under *natural noise* there is no ground truth, so detection of mismatched pairs is not scored. A method that
*sees ground truth* knows which training pairs are clean: it is a reference and never counts as best. A method that was
*given clean pairs* knows this many training pairs to be clean, which the others do not.
"""

FITTING_LEGEND = """\
*All that fits*: a caption fits an image if it is at least as close to it in meaning as to its own image, so one without
errors fits all images of which it is true. With R fitting items, *R-precision* is the share of them among the first R,
and *mAP@R* the mean of the precisions at their ranks up to R. *Wrong firsts that fit* are those of the first hits that
R@1 counts as wrong which fit all the same. Kendall's tau is 1 for the same order of methods, -1 for the reverse.
"""

PROBLEMS_LEGEND = """\
These records do not pass `ncbench verify`. Results that *fail verification* are marked and never count as best or rank;
records that could not be read are left out. Figures show neither.
"""

HARNESS_LEGEND = """\
Runs with the same settings end in other results under another version of the harness, so they have tables of their own.
Under *harness 1*, methods saw the training pairs in the order of the dataset, which tells which pairs are matched.
"""

PUBLISHED_LEGEND = """\
Recalls and rSum are as printed in the *sources*, which are often not the paper that proposed the method; a result that
several sources print is one row. *Networks* is the number of networks whose similarities are averaged, ? where no
source states it. Tables that reprint numbers mix both noise units; where no source states the unit, it is *unknown*.
*SUM-MISMATCH*: the printed rSum is not the sum of the printed recalls. *SUSPECT*: a number is probably a misprint.
*Our rSum* is the mean over seeds (± standard deviation) for the same method, backbone, noise ratio and unit; plain
backbones are compared with our `triplet`. *Difference*, ours minus the published one, is given only under like
conditions: a known noise unit, as many networks, the published sizes, and a budget in the method's own epochs. The
overviews give the lowest and the highest published rSum where sources differ, and leave marked misprints out.
"""


def legend_of(boards: Iterable[Leaderboard]) -> str:
    """Return the explanation of the tables of `boards`.

    That of all that fits is there if a board has such scores, that of versions of the harness if they differ.
    """
    runs = [board.runs for board in boards]
    fitting = any("map_at_r" in each and each["map_at_r"].notna().any() for each in runs)
    mixed = any(each["harness"].nunique() > 1 for each in runs)
    return "\n".join([LEGEND, *([FITTING_LEGEND] if fitting else []), *([HARNESS_LEGEND] if mixed else [])])
