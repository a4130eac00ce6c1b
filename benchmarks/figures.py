"""How figures are written for people; what was not measured is "n/a"."""

NOT_MEASURED = "n/a"
METRIC_NAMES = {
    "macro_recall": "average accuracy",
    "f1_macro": "F1 (macro)",
    "f1_micro": "F1 (micro)",
    "r2": "R²",
    "rmse": "RMSE",
}


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and no exponent: 0.0841, 1.32, 17.5, 1320."""
    if value == 0:
        return "0"
    text = f"{float(f'{value:.{digits - 1}e}'):,.10f}"
    whole, _, fraction = text.partition(".")
    leading = len(whole.lstrip("-").replace(",", "")) if whole.lstrip("-") != "0" else 0
    zeros = 0 if leading else len(fraction) - len(fraction.lstrip("0"))
    kept = fraction[: max(0, digits - leading + zeros)]
    return f"{whole}.{kept}" if kept else whole


def short(value: float | None) -> str:
    """Like `significant` without zeros at the end: 4.04, 0.983, 0.01, 1."""
    if value is None:
        return NOT_MEASURED
    text = significant(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def milliseconds(value: float | None) -> str:
    """A latency."""
    return NOT_MEASURED if value is None else significant(value)


def per_second(value: float | None) -> str:
    """A throughput."""
    return NOT_MEASURED if value is None else significant(value)


def size(count: int | None) -> str:
    """Bytes, in kB or MB of 1000."""
    if count is None:
        return NOT_MEASURED
    return f"{significant(count / 1e6)} MB" if count >= 1e6 else f"{significant(count / 1e3)} kB"


def megabytes(value: float | None) -> str:
    """Resident memory in MiB."""
    return NOT_MEASURED if value is None else f"{value:.0f} MiB"


def measure(value: float | None) -> str:
    """A metric, three decimals."""
    return NOT_MEASURED if value is None else f"{value:.3f}"


def with_interval(value: float | None, interval: list[float] | None) -> str:
    """A metric and its 95 % interval: 0.812 [0.790, 0.833]."""
    if value is None or interval is None:
        return measure(value)
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def percent(value: float | None) -> str:
    """A share, as a change: +5.2 %."""
    return NOT_MEASURED if value is None else f"{100 * value:+.1f} %"


def metric_name(name: str) -> str:
    """The metric as the field calls it."""
    return METRIC_NAMES.get(name, name)
