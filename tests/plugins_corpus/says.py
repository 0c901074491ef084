"""Plug-ins that say of themselves what can't be used: refused when the class is found or made."""

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, Field, model_validator

from mlfsic_bench.methods.contract import Method, MethodParams
from tests.fakes.plugins.minimal import Minimal


def with_params(label, annotation, default):
    """A method whose one parameter `x` has this type and default."""
    Params = type(
        "Params", (MethodParams,), {"__annotations__": {"x": annotation}, "x": Field(default)}
    )
    return type(label, (Minimal,), {"name": "p", "Params": Params})


class Inner(BaseModel):
    k: int = 1


class LongCitation(Minimal):
    citation = "x" * 5000


class ControlCitation(Minimal):
    citation = "Me\x1b[2J, 2026"


class NumberCitation(Minimal):
    citation = 2026


class TextVersion(Minimal):
    version = "1.0"


class TextFlag(Minimal):
    trains = "no"


class OldFlag(Minimal):
    needs_words = True


class OldFlagLater(Minimal):
    def __init__(self, params=None):
        super().__init__(params)
        self.uses_words = True


class PropertyFlag(Minimal):
    adapts_by_gradient = property(lambda self: False)


class PresetsList(Minimal):
    presets: ClassVar = ["paper"]


class PresetOfPaths(Minimal):
    presets: ClassVar = {"paper": {"x": Path("/etc")}}


class PresetControlName(Minimal):
    presets: ClassVar = {"a\nb": {}}


class CheckSettingsNumbers(Minimal):
    class Params(MethodParams):
        epochs: int = 3

    check_settings: ClassVar = {"epochs": 2}


class CheckSettingsUnknown(Minimal):
    check_settings: ClassVar = {"epochs": "2"}


class TrainsWithoutState(Minimal):
    trains = True


class NumberDocstring(Minimal):
    __doc__ = 3


class ParamsRaise(Minimal):
    class Params(MethodParams):
        k: int = 1

        @model_validator(mode="after")
        def _bad(self):
            raise ZeroDivisionError("in the validator")


class _Meta(type(Method)):
    @property
    def citation(cls):
        raise OSError("no citation today")


class AttributeRaises(Minimal, metaclass=_Meta):
    pass


class NoParams(Minimal):
    def __init__(self, params=None):
        pass


class OtherParams(Minimal):
    class Params(MethodParams):
        k: int = 1

    def __init__(self, params=None):
        super().__init__(self.Params(k=2))


class ChangesName(Minimal):
    def __init__(self, params=None):
        super().__init__(params)
        self.__dict__["name"] = "linear"


class FlagLater(Minimal):
    def __init__(self, params=None):
        super().__init__(params)
        self.__dict__["needs_embeddings"] = 1


class MakesAnother(Minimal):
    def __new__(cls, params=None):
        return Minimal()


class RaisesWhenMade(Minimal):
    def __init__(self, params=None):
        raise SystemExit(0)


# class -> a word of the error
REFUSED = {
    with_params("PathParameter", Path, Path("/etc")): "type that can't be recorded",
    with_params("SetParameter", set[int], {3}): "type that can't be recorded",
    with_params("BytesParameter", bytes, b"\xff"): "type that can't be recorded",
    with_params("DictParameter", dict[str, int], {"a": 1}): "type that can't be recorded",
    with_params("ModelParameter", Inner, Inner()): "type that can't be recorded",
    with_params("InfiniteDefault", float, float("inf")): "can't be recorded",
    with_params("SurrogateDefault", str, "\ud800"): "can't be recorded",
    with_params("WrongDefault", int, "three"): "has defaults that its own",
    with_params("LongDefault", str, "x" * 70_000): "too large",
    LongCitation: "5,000 characters",
    ControlCitation: "no usable citation",
    NumberCitation: "no usable citation",
    TextVersion: "no usable version",
    TextFlag: "no usable trains",
    OldFlag: "declares needs_words",
    OldFlagLater: "declares uses_words",
    PropertyFlag: "no usable adapts_by_gradient",
    PresetsList: "no usable presets",
    PresetOfPaths: "no usable presets",
    PresetControlName: "no usable presets",
    CheckSettingsNumbers: "no usable check_settings",
    CheckSettingsUnknown: "no usable check_settings",
    TrainsWithoutState: "no state()",
    NumberDocstring: "no usable docstring",
    ParamsRaise: "in the validator",
    AttributeRaises: "no citation today",
    NoParams: "does not keep its parameters",
    OtherParams: "does not keep its parameters",
    ChangesName: "changes its name",
    FlagLater: "no usable needs_embeddings",
    MakesAnother: "can't be made",
    RaisesWhenMade: "SystemExit: 0",
}
