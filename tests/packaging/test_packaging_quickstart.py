"""The method printed in the quickstart is a method: it is run as it stands there."""

import re
from pathlib import Path

import torch

from mlfsic_bench.methods.contract import Images, Method, Support

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quickstart.md"


class OneHot:
    """Image `i` has the i-th unit vector as its pooled feature."""

    channels, grid, device = 3, (1, 1), torch.device("cpu")

    def pooled(self, ids):
        return torch.eye(3)[[int(i) for i in ids]]


def printed_method() -> type[Method]:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    names: dict[str, object] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    (method,) = (
        value
        for value in names.values()
        if isinstance(value, type) and issubclass(value, Method) and value is not Method
    )
    return method


def test_printed_method_scores_by_cosine_to_the_mean():
    method = printed_method()()
    support = Support(
        images=Images(("0", "1"), OneHot()),
        targets=torch.tensor([[1.0, 1.0], [0.0, 1.0]]),
        labels=("a", "b"),
        embeddings=None,
        seed=0,
    )
    scores = method.adapt(support)(Images(("0", "1", "2"), OneHot()))
    half = 0.5**0.5
    cosines = torch.tensor([[1.0, half], [0.0, half], [0.0, 0.0]])
    assert torch.allclose(scores, cosines - (1 + 2 * half) / 4)
    assert (scores > 0).tolist() == [[True, True], [False, True], [False, False]]  # D5
