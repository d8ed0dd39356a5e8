"""The collector rests while many objects are made, and only then."""

import gc

import pytest

from data_tools.heap import no_collecting


def test_the_collector_works_again_afterwards_if_it_did_before() -> None:
    @no_collecting()
    def works() -> bool:
        return gc.isenabled()

    assert gc.isenabled() and not works() and not works() and gc.isenabled()
    with pytest.raises(ValueError, match="x"), no_collecting():
        raise ValueError("x")
    assert gc.isenabled()
    with no_collecting():
        assert not works() and not gc.isenabled()  # the inner one leaves it as it was
    assert gc.isenabled()
