"""Loaded by the server that children are forked from: what each would load or measure anew is done once."""

from tests.faults import crash
from unmask.runtime import machine
from unmask.train.flops import peak_flops

crash.trainer()  # torch loads a good part of itself, two seconds of it, for the first optimizer
peak_flops(machine(crash.PRETRAIN.machine.dtype, crash.PRETRAIN.machine.device))
