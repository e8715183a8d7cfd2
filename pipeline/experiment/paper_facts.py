"""Numbers that the paper's text states and none of its tables prints, for pages that quote them (docs/paper.md)."""

from __future__ import annotations

TITLE = "Very Deep Convolutional Networks for Large-Scale Image Recognition"
PUBLISHED = "K. Simonyan and A. Zisserman, ICLR 2015"
ADDRESS = "https://arxiv.org/abs/1409.1556"

FC = 4096  # section 2.1: units of each hidden fully connected layer
BATCH = 256  # section 3.1, as all that follows up to the GPUs
MOMENTUM = 0.9
WEIGHT_DECAY = 0.0005
DROPOUT = 0.5
RATE = 0.01
FINETUNING_RATE = 0.001  # of S = 384
DROPS = 3
ITERATIONS, EPOCHS = 370_000, 74
VARIANCE = 0.01  # of the random weights; read as a standard deviation here (docs/paper.md, open choices)
SMALL, LARGE, JITTERED = 256, 384, (256, 512)  # S
GPUS, SPEEDUP, WEEKS = 4, 3.75, (2, 3)  # section 3.3; weeks for one network
TEST_IMAGES = 100_000  # section 4; their labels are not public
OVERLAP = 0.5  # appendix A: a predicted box is right above this intersection over union
