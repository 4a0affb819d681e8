"""The one root of the errors that this project raises on purpose."""


class TrafficVisionError(Exception):
    """Something the user gave or asked for cannot be used.

    The message says what was wrong, with which value, and what to do. The command line prints it as
    one line and exits with 1; anything that is not a subclass is a defect and keeps its traceback.
    """
