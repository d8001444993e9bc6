"""What the tables of a leaderboard mean, in markdown."""

LEGEND = """\
Recalls in percent on the test split: *i2t* finds a caption of an image, *t2i* the image of a caption; rSum is the sum
of the six. The best of each column is bold, the second underlined; ± is the standard deviation over seeds. *Rank* is
one more than the number of methods that are better and that a paired bootstrap over test queries and seeds tells apart
from this one (95 % interval of the difference of rSum): methods that cannot be told apart share it. *Average* is over
the noisy ratios, *kept* what this is of the rSum on clean pairs; both are left open where a run is missing. *Budget
used* is training work in epochs of plain triplet training; *time* is seconds of training; evaluation is in neither.
*Outside* is the share of this time that went into what the budget does not count, as optimal transport and mixtures;
(!) marks more than 20 %. Under *own epochs* every method trains for so many epochs of its own, however much work they
are: as papers do. Tables with different noise units (`images`: all captions of an image move together; `captions`: each
moves on its own; `words`: captions stay, and hold words of others) are not comparable. Which pairs are mismatched under
*natural noise* nobody knows, so nothing is said about how well methods tell them. A method that was *told the truth*
knows which training pairs are clean: it is there for reference, and never the best. One that was *told clean pairs*
knows of so many training pairs that they are clean, which the others do not.
"""

BESIDE_LEGEND = """\
Recalls and rSum as printed in the *source*, which is often not the paper that proposed the method. *Nets* are the
networks whose similarities were averaged. The *unit* of the noise is in the heading; it and the nets are *unknown*
where no source settles them: tables that reprint numbers mix both units. *SUM-MISMATCH*: the printed sum is not that of
the recalls; *SUSPECT*: something is likely misprinted. *Our rSum* is the mean over seeds (± their standard deviation)
of the same method, backbone, ratio and unit, *difference* is ours less theirs; `triplet` stands beside plain backbones.
Ours had the budget that is told, which need not be the paper's, and average the networks that the method builds.
"""
