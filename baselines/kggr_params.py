"""Parameters of `kggr`, the re-implementation of KGGR."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlfsic_bench.methods.contract import MethodParams


class KGGRParams(MethodParams):
    """Parameters of KGGR; the sizes are smaller than the original's (preset `ssgrl`)."""

    d_joint: int = Field(256, ge=1, description="joint space of image place and label vector")
    d_hidden: int = Field(256, ge=1, description="states of the graph over features")
    d_out: int = Field(256, ge=1, description="outputs, and states of the graph over classifiers")
    steps: int = Field(3, ge=1, description="T, rounds of messages in both graphs")
    word_scale: float = Field(
        10.0, gt=0, description="factor of the cosine in the softmax of word edges"
    )
    epochs: int = Field(20, ge=1, description="epochs of training on the base part")
    lr: float = Field(1e-3, gt=0, description="Adam's learning rate on the base part")
    batch: int = Field(16, ge=1, description="images in a step on the base part")
    tune: Literal["classifiers", "graphs"] = Field(
        "classifiers",
        description="tuned per episode: new classifiers and their graph, or the other graph too",
    )
    tune_epochs: int = Field(40, ge=0, description="full-batch steps on each support set")
    head_lr: float = Field(1e-3, gt=0, description="learning rate of new vectors and biases")
    graph_lr: float = Field(1e-4, gt=0, description="that of the graphs, per episode")
