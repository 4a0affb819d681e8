"""The doctor: everything that the daemon needs of its machine, looked at without starting it.

A file per subject. Each reads what is there, and judges it by rules without I/O; none stops the others.
"""

from edge.doctor.examination import SUBJECTS, examine
from edge.doctor.finding import Finding, Level

__all__ = ["SUBJECTS", "Finding", "Level", "examine"]
