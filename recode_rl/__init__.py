"""ReCode: reinforcement learning for code models that rewards the reasoning as well as the result."""

__version__ = "0.1.0"
