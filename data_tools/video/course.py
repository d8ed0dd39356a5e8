"""How early a video's sound is all along: straight lines, and when one gives way to the next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """How early the sound is: `early` seconds beside the first picture, and how fast that grows.

    Attributes:
        early: seconds; negative: late.
        growth: seconds of it a second of the picture, below 1.
    """

    early: float
    growth: float = 0.0

    def at(self, seconds: float) -> float:
        """Seconds by which the sound is early beside the picture at `seconds`."""
        return self.early + self.growth * seconds

    def seen(self, heard: float) -> float:
        """Seconds of the picture beside which the sound at `heard` belongs."""
        return (heard + self.early) / (1 - self.growth)


@dataclass(frozen=True)
class Course:
    """How early a video's sound is all along.

    Attributes:
        lines: that follow one another, at least one.
        changes: between which seconds from the first picture on each gives way to the next.
    """

    lines: tuple[Line, ...]
    changes: tuple[tuple[float, float], ...] = ()
