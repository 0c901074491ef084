from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.training.history import read_history
from mlfsic_bench.training.loop import (
    WarmupCosine,
    load_checkpoint,
    save_checkpoint,
    train_episodic,
)
from tests.fakes.processes import KILLED, run_apart
from tests.training.killed_training import train

pytestmark = pytest.mark.slow


class Problem:
    """A parameter pulled to a target that depends on the episode."""

    def __init__(self) -> None:
        self.x = torch.nn.Parameter(torch.zeros(3))
        self.episodes: list[int] = []

    def loss(self, i: int) -> torch.Tensor:
        self.episodes.append(i)
        return ((self.x - torch.tensor([1.0, 2.0, float(i % 3)])) ** 2).mean()

    def state(self) -> dict[str, torch.Tensor]:
        return {"x": self.x.detach()}

    def set_state(self, state: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            self.x.copy_(state["x"])

    def train(self, **kwargs):
        settings = {
            "parameters": [self.x],
            "loss": self.loss,
            "learning_rate": lambda step: 0.01,
            "steps": 20,
            "get_state": self.state,
            "set_state": self.set_state,
            "row_every": 5,
        }
        return train_episodic(**{**settings, **kwargs})


def test_a_step_averages_the_gradients_of_its_episodes():
    ours = Problem()
    ours.train(steps=4, episodes_per_step=3)
    x = torch.nn.Parameter(torch.zeros(3))
    adam = torch.optim.Adam([x], lr=0.01)
    for step in range(4):
        adam.zero_grad()
        target = [torch.tensor([1.0, 2.0, float(i % 3)]) for i in range(3 * step, 3 * step + 3)]
        (sum(((x - t) ** 2).mean() for t in target) / 3).backward()
        adam.step()
    assert ours.episodes == list(range(12))
    assert torch.allclose(ours.x, x, atol=1e-6)


def test_the_learning_rate_of_each_step_is_the_schedules():
    problem = Problem()
    problem.train(steps=3, learning_rate=lambda step: [0.1, 0.0, 0.0][step])
    assert torch.allclose(problem.x.abs().max(), torch.tensor(0.1), atol=1e-4)


def test_the_best_state_is_kept_and_the_first_of_equals_wins():
    problem, values = Problem(), iter([0.2, 0.5, 0.5, 0.1])
    kept: list[torch.Tensor] = []

    def evaluate() -> float:
        kept.append(problem.x.detach().clone())
        return next(values)

    trained = problem.train(evaluate=evaluate, evaluate_every=5)
    assert (trained.best_step, trained.best_value) == (10, 0.5)
    assert trained.best is not None
    assert torch.equal(trained.best["x"], kept[1])
    assert torch.equal(problem.x, kept[3])
    assert [(r["step"], r["value"]) for r in trained.history] == [
        (5, 0.2),
        (10, 0.5),
        (15, 0.5),
        (20, 0.1),
    ]


@pytest.mark.usefixtures("one_thread")
def test_a_cut_training_resumes_to_the_same_bits_and_history(tmp_path):
    def run(folder: Path, stop: int | None) -> Problem:
        problem = Problem()
        whole = problem.loss

        def loss(i: int) -> torch.Tensor:
            if i == stop:
                raise KeyboardInterrupt
            return whole(i)

        problem.train(
            loss=loss,
            folder=folder,
            key="k",
            checkpoint_seconds=0.0,
            evaluate=lambda: float(problem.x.detach().sum()),
            evaluate_every=10,
        )
        return problem

    undisturbed = run(tmp_path / "a", None)
    for stop in (3, 10, 17):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "b", stop)
    resumed = run(tmp_path / "b", None)
    assert resumed.episodes == [17, 18, 19]
    assert torch.equal(resumed.x, undisturbed.x)
    assert read_history(tmp_path / "b") == read_history(tmp_path / "a")
    assert [row["step"] for row in read_history(tmp_path / "b")] == [5, 10, 15, 20]
    again = run(tmp_path / "b", 0)
    assert again.episodes == []
    assert torch.equal(again.x, undisturbed.x)
    best = load_checkpoint(tmp_path / "b" / "best.pt")
    assert torch.equal(best["state"]["x"], undisturbed.x)


@pytest.mark.usefixtures("one_thread")
def test_cut_between_best_and_latest_ends_the_same(tmp_path, monkeypatch):
    from mlfsic_bench.training import loop

    def run(folder: Path) -> tuple[Problem, object]:
        problem = Problem()
        trained = problem.train(
            folder=folder, evaluate=lambda: float(problem.x.detach().sum()), evaluate_every=5
        )
        return problem, (trained.best_step, trained.best_value, trained.best["x"].tolist())

    expected = run(tmp_path / "a")[1]
    write, count = save_checkpoint, []

    def cut(path: Path, content: dict[str, object]) -> None:
        count.append(path.name)
        if len(count) == 4:  # best, latest, best, and now the second latest
            assert path.name == "latest.pt"
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(loop, "save_checkpoint", cut)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b")
    monkeypatch.setattr(loop, "save_checkpoint", write)
    assert run(tmp_path / "b")[1] == expected


def test_without_val_nothing_is_best_and_history_has_losses_only(tmp_path):
    problem, seen = Problem(), []

    def loss(i: int) -> torch.Tensor:
        seen.append(problem.loss(i))
        return seen[-1]

    trained = problem.train(folder=tmp_path, loss=loss)
    assert trained.best is None
    assert {row["value"] for row in trained.history} == {None}
    means = torch.stack(seen).detach().view(4, 5).mean(1)
    assert [row["loss"] for row in trained.history] == pytest.approx(means.tolist())
    assert not (tmp_path / "best.pt").exists()
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == trained.history


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error_naming_the_step(value):
    problem = Problem()
    with pytest.raises(BenchError, match="loss of step 7") as error:
        problem.train(loss=lambda i: problem.loss(i) * (value if i == 7 else 1))
    assert "lr" in error.value.remedy


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    Problem().train(folder=tmp_path, key="one")
    with pytest.raises(BenchError, match="belongs to another training"):
        Problem().train(folder=tmp_path, key="two")


def test_checkpoints_return_what_was_saved_and_refuse_the_rest(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"t": torch.arange(3), "n": 1, "rows": [{"a": None}]})
    content = load_checkpoint(path)
    assert torch.equal(content["t"], torch.arange(3))
    assert content["rows"] == [{"a": None}]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BenchError, match="not a readable checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(BenchError, match="not a readable checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(BenchError, match="not a readable checkpoint"):
        load_checkpoint(path)
    with pytest.raises(BenchError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    torch.save(torch.zeros(2), path)
    with pytest.raises(BenchError, match="not a readable checkpoint"):
        load_checkpoint(path)


def test_a_history_that_is_none_is_refused(tmp_path):
    with pytest.raises(BenchError, match="not a readable training history"):
        read_history(tmp_path)
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(BenchError, match="not a readable training history"):
        read_history(tmp_path)


def test_warm_up_is_linear_and_the_cosine_ends_at_final():
    rate = WarmupCosine(base=1e-3, steps=2000, warmup=100, start=1e-6, final=1e-5)
    assert rate(0) == 1e-6
    assert rate(50) == pytest.approx((1e-6 + 1e-3) / 2)
    assert rate(100) == pytest.approx(1e-3)
    assert rate(1050) == pytest.approx((1e-3 + 1e-5) / 2)
    assert rate(2000) == pytest.approx(1e-5)
    assert all(rate(t) > rate(t + 1) for t in range(100, 1999))


def test_the_paper_keeps_its_rate_after_the_warm_up():
    rate = WarmupCosine(base=1e-3, steps=20000, warmup=1000)
    assert {rate(t) for t in (1000, 7000, 19999)} == {1e-3}


def test_a_killed_training_ends_with_the_same_bits(tmp_path):
    """A real process, killed with SIGKILL twice, against an undisturbed one."""
    assert run_apart(train, tmp_path / "whole") == 0
    steps = []
    for end in (7, 20):
        assert run_apart(train, tmp_path / "cut", end) == KILLED
        steps.append(load_checkpoint(tmp_path / "cut" / "latest.pt")["step"])
    assert 0 < steps[0] < steps[1] < 40
    assert run_apart(train, tmp_path / "cut") == 0
    expected = load_checkpoint(tmp_path / "whole" / "final.pt")
    found = load_checkpoint(tmp_path / "cut" / "final.pt")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert read_history(tmp_path / "whole") == read_history(tmp_path / "cut")
