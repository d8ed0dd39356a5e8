"""AdamW that leaves torch's compiler alone."""

from inspect import unwrap

import torch
from torch.optim import Optimizer


class AdamW(torch.optim.AdamW):
    """torch's to the bit, but for what loads the compiler: two seconds of CPU of every run.

    torch wraps these methods to keep them out of what is compiled, and loads the compiler to say
    so. We compile forward passes, never an optimizer. Where torch wraps nothing, nothing changes.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    load_state_dict = unwrap(Optimizer.load_state_dict)
    state_dict = unwrap(Optimizer.state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))
