"""Every class and constant of ``leafkit.config`` under the module's former name."""

from leafkit.config import *  # noqa: F403
