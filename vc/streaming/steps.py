"""What a stream's networks are given at once.

A step costs much the same whatever it gives out, for it is reading the weights that takes the
time; so a step of few frames makes a stream costly, and one of many makes it late.
"""

from vc.model.stepwise import Step

STEP = Step(new=4, ahead=4)  # mel frames; with three ahead it sounds less clear, with two words go
MEMORY_S = 30.0  # what was heard longer ago is forgotten
