"""Loaded by the server that children are forked from: what they would each measure anew is measured once."""

from tests.faults import crash
from unmask.runtime import machine
from unmask.train.flops import peak_flops

peak_flops(machine(crash.PRETRAIN.machine.dtype, "cpu"))
