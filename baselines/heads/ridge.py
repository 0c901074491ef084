"""The `ridge` row: ridge regression on each support, in closed form."""

from __future__ import annotations

from mlfsic_baselines.heads.linear_head import HeadParams, linear_head
from mlfsic_baselines.heads.solvers import fit_ridge

from mlfsic_bench.methods.contract import Method, Predictor, Support


class RidgeRegression(Method):
    """Bertinetto, Henriques, Torr and Vedaldi, ICLR 2019: the ridge regression of R2-D2.

    (Meta-learning with Differentiable Closed-form Solvers.) For each label by itself, on the
    support:

        minimise  sum_i v_ic (w_c x_i + b_c - t_ic)^2  +  penalty |w_c|^2,    t = 1 or -1
        score(x, c) = w_c x + b_c         x_i = f_i / |f_i| [d]: pooled feature of support image i

    It is solved for s weights of images in place of d weights of features (the paper's use of
    Woodbury's identity; `solvers`).

    What we decided. Only the solver is the paper's: R2-D2 trains a network, the penalty and an
    affine map of the outputs through it; here the features are as they come and the penalty is a
    parameter. The bias is not penalised. With a bias, any other pair of targets than -1 and 1 gives
    the same w up to a factor, so classes are balanced by weights: with `balance` (default) v makes
    positives and negatives of a label weigh s/2 each, which is Fisher's discriminant with a
    penalty; else v is 1. The threshold is 0, half way between the targets. A label that no support
    image carries scores -1 for every image.
    """

    name = "ridge"
    Params = HeadParams
    printed = "Ridge regression"
    citation = (
        "Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019 "
        "(R2-D2's solver, on features as they come)"
    )
    bibtex = """\
@inproceedings{bertinetto2019meta,
  title = {Meta-learning with Differentiable Closed-form Solvers},
  author = {Bertinetto, Luca and Henriques, Jo{\\~a}o F. and Torr, Philip H. S. and
    Vedaldi, Andrea},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2019}
}"""
    params: HeadParams

    def adapt(self, support: Support) -> Predictor:
        """Scores float [q, L], near -1 and 1 on the support."""
        predictor: Predictor = linear_head(support, self.params, fit_ridge, 2 * support.targets - 1)
        return predictor
