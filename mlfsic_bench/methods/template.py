"""A method of your own: prototypes with a threshold, to be changed into yours.

mlfsic-bench methods check FILE.py:MyMethod
mlfsic-bench run FILE.py:MyMethod --split scenes-12-6-6-v1 --backbone scenes-small
"""

from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support


class MyParams(MethodParams):
    """What `--set scale=10` changes; every parameter has a default."""

    scale: float = Field(20.0, gt=0, description="factor of the scores")


class MyMethod(Method):
    """Put here what your method does, in a line, and below it how."""

    name = "my-method"
    Params = MyParams
    params: MyParams

    def adapt(self, support: Support) -> Predictor:
        """Learn the labels of an episode; what is returned scores query images."""
        f = normalize(support.images.pooled(), dim=1)  # [s, d]
        y = support.targets  # [s, L], 1 where an image shows a label
        shows = y.T @ f / y.sum(0).clamp(min=1)[:, None]  # [L, d]
        lacks = (1 - y).T @ f / (1 - y).sum(0).clamp(min=1)[:, None]
        scale = self.params.scale

        def predictor(query: Images) -> Tensor:
            # [q, L]: higher is more likely; a label is predicted where the score is above 0
            return scale * normalize(query.pooled(), dim=1) @ (shows - lacks).T

        return predictor
