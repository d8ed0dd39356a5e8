"""Signals that ask a training to leave: heard, named, and given back afterwards."""

import os
import signal

import pytest

from trainer.train.distributed import Processes
from trainer.train.stop import Agreement, StopRequest, stop_requests


def test_the_first_signal_is_the_reason() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as stop:
        assert not stop and stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop and stop.signal == "SIGTERM"
        # whoever presses Ctrl-C now will not wait for a save
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 1.0)
    assert signal.getsignal(signal.SIGTERM) == before


def test_one_ctrl_c_is_a_request() -> None:
    stop = StopRequest()
    stop.ask(signal.SIGINT)
    assert stop.signal == "SIGINT"
    assert Agreement(Processes()).ask(bool(stop))
    assert not Agreement(Processes()).ask(False)
