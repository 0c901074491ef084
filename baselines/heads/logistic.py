"""The `logistic` row: penalised logistic regression on each support, solved to convergence."""

from __future__ import annotations

from mlfsic_baselines.heads.linear_head import HeadParams, linear_head
from mlfsic_baselines.heads.solvers import fit_logistic

from mlfsic_bench.methods.contract import Method, Predictor, Support


class LogisticRegression(Method):
    """Tian, Wang, Krishnan, Tenenbaum and Isola, ECCV 2020: a frozen network and a linear head.

    (Rethinking Few-Shot Image Classification: A Good Embedding Is All You Need?) A classifier on
    features of unit length is fitted to the support of each episode; the features stay as they are.
    For each label c by itself:

        minimise  sum_i v_ic BCE(sigmoid(w_c x_i + b_c), y_ic)  +  penalty / 2 |w_c|^2
        score(x, c) = w_c x + b_c         x_i = f_i / |f_i| [d]: pooled feature of support image i

    The problem is convex and is solved to its end, so no number of steps and no learning rate is
    chosen. `linear` descends the same loss by Adam, on raw features, for a fixed number of steps.

    What we decided. The paper's classifier chooses one of several classes; here an image may carry
    several labels, so each label has a binary classifier. The sum runs over images, so `penalty` is
    1/C of scikit-learn. The bias is not penalised. With `balance` (default) v makes positives and
    negatives of a label weigh s/2 each; else v is 1, and the bias follows the frequency of the
    label in the support: fewer labels are predicted. There is no scale of the features: to multiply
    them by t is to divide the penalty by t^2. A label that no support image, or every one, carries
    has no finite solution; it gets w = 0 and the log-odds of its smoothed share.
    """

    name = "logistic"
    Params = HeadParams
    printed = "Logistic regression"
    citation = (
        "Tian et al., Rethinking Few-Shot Image Classification: A Good Embedding Is All You Need?, "
        "ECCV 2020; here one binary classifier per label"
    )
    bibtex = """\
@inproceedings{tian2020rethinking,
  title = {Rethinking Few-Shot Image Classification: A Good Embedding Is All You Need?},
  author = {Tian, Yonglong and Wang, Yue and Krishnan, Dilip and Tenenbaum, Joshua B. and
    Isola, Phillip},
  booktitle = {Computer Vision -- ECCV 2020},
  pages = {266--282}, year = {2020}
}"""
    params: HeadParams

    def adapt(self, support: Support) -> Predictor:
        """Scores float [q, L], log-odds."""
        predictor: Predictor = linear_head(support, self.params, fit_logistic, support.targets)
        return predictor
