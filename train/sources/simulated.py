"""A simulated two-sensor crop set: physics-shaped, seeded, made in a second, so that nothing needs a network.

One field is one sample, seen in the middle of each month by an optical sensor (Sentinel-2 bands, surface reflectance)
and a radar (VV and VH, dB). What co-learning can win is built in by three hidden causes:

    shared              when and how much the crop grows; both sensors see it, the radar through speckle
    optical alone       leaf chlorophyll
    radar alone         plant structure (how much water stands how high) and soil moisture

The equations, all per field and month:

- Growth: double logistic leaf area index, Beck et al. 2006 (RSE 100), after Zhang et al. 2003 (RSE 84).
- Fractional cover 1 - exp(-k LAI): gap fraction of a canopy with random leaves, Nilson 1971 (Agric. Meteorol. 8).
- Reflectance: linear mixing of soil, green and dry vegetation, Adams et al. 1986 (JGR 91); wet soil is darker,
  exponential in moisture, Lobell and Asner 2002 (SSSAJ 66). Cloudy months are missing values.
- Backscatter: water-cloud model, Attema and Ulaby 1978 (Radio Science 13), soil in dB linear in moisture, Ulaby et al.
  1978 (IEEE Trans. Geosci. Electron. 16); speckle is gamma-distributed with L looks, Ulaby et al. 1986 (IEEE TGRS 24).
- Yield (regression): light use efficiency times absorbed light, Monteith 1977 (Phil. Trans. R. Soc. B 281).

The constants are round numbers of plausible size, not measurements: results on this set say that the software works,
nothing about crops. Sites differ in soil, moisture, climate and viewing angle, so grouped splits matter here too.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import InputError
from edge.sensors import Band, Modality
from edge.tasks import Task
from edge.train.paired import PairedSet, write_paired_set

TITLE = "simulated crops, Sentinel-2-like and Sentinel-1-like series of 12 months"
LICENCE = "Apache-2.0"
CITATION = "made by edge.train.sources.simulated; the equations' papers are named there"
ADDRESSES: dict[str, str | None] = {}
BY_HAND = ""

DAYS = np.arange(12) * 30.4 + 15.0  # day of year in the middle of each month, (12,)
MONTHS = tuple(f"{month:02d}" for month in range(1, 13))
SITES = 60
ABSENT = 0.02  # share of samples that lack a modality, for each of the two

# name, share, start and end of season (day of year), largest LAI, chlorophyll 0..1, structure (water per leaf area)
CROPS = (
    ("winter_wheat", 0.26, 100, 195, 4.5, 0.70, 0.55),
    ("rapeseed", 0.14, 92, 188, 4.2, 0.35, 1.00),
    ("maize", 0.22, 165, 272, 4.5, 0.70, 1.05),
    ("sunflower", 0.10, 160, 258, 3.8, 0.35, 0.85),
    ("sugar_beet", 0.12, 152, 295, 4.4, 0.75, 0.60),
    ("grassland", 0.16, 82, 300, 3.0, 0.45, 0.50),
)

# band, common name, reflectance of green leaves with little and with much chlorophyll, dry plants, dry soil
SPECTRA = (
    ("B02", "blue", 0.050, 0.030, 0.090, 0.090),
    ("B03", "green", 0.110, 0.060, 0.130, 0.130),
    ("B04", "red", 0.060, 0.030, 0.170, 0.170),
    ("B05", "rededge071", 0.170, 0.090, 0.210, 0.200),
    ("B06", "rededge075", 0.360, 0.280, 0.250, 0.220),
    ("B07", "rededge078", 0.420, 0.400, 0.280, 0.240),
    ("B08", "nir", 0.440, 0.450, 0.310, 0.260),
    ("B8A", "nir08", 0.460, 0.470, 0.330, 0.280),
    ("B09", "nir09", 0.440, 0.450, 0.330, 0.290),
    ("B11", "swir16", 0.230, 0.210, 0.380, 0.360),
    ("B12", "swir22", 0.120, 0.100, 0.270, 0.320),
)

# band, scattering A and attenuation B per kg/m2 of water, soil backscatter in dB: dry, per m3/m3 of moisture
RADAR = (("VV", 0.040, 0.16, -17.0, 32.0), ("VH", 0.014, 0.13, -25.0, 26.0))
LOOKS = 25  # independent looks in the mean over a field


@dataclass(frozen=True, eq=False)
class _Fields:
    """The hidden state of n fields; arrays (n,) or (n, 12)."""

    crop: np.ndarray  # index into CROPS
    site: np.ndarray
    lai: np.ndarray  # (n, 12) m2/m2
    senescence: np.ndarray  # (n, 12) 0 green .. 1 dry
    moisture: np.ndarray  # (n, 12) m3/m3
    chlorophyll: np.ndarray
    structure: np.ndarray


def convert(raw: Path | None, folder: Path) -> PairedSet:
    """The source `simulated`: the classification set with its default size and seed; `raw` is not needed."""
    return simulate(folder)


def simulate(folder: Path, *, task: str = "classification", n: int = 2400, seed: int = 0) -> PairedSet:
    """Write the simulated set of `n` fields to `folder`; the same `seed` gives the same bits.

    Modalities: optical (12 months, 11 bands and NDVI), sar (12 months, VV and VH in dB). `task`: "classification" (crop
    type, six classes) or "regression" (yield, t/ha). Groups are sites. InputError: unknown task, fewer than 120 fields.
    """
    if task not in ("classification", "regression"):
        raise InputError(f"task {task!r} is not known; use classification or regression")
    if n < 2 * SITES:
        raise InputError(f"n = {n} fields are too few for {SITES} sites; use {2 * SITES} or more")
    rng = np.random.default_rng(seed)
    fields = _grow(rng, n)
    optical, sar = _see_optical(rng, fields), _see_radar(rng, fields)
    gaps = rng.permutation(n)[: 2 * int(ABSENT * n)]  # no field lacks both
    optical[gaps[::2]] = np.nan
    sar[gaps[1::2]] = np.nan
    classification = task == "classification"
    kinds = Task("multiclass", "crop", tuple(crop[0] for crop in CROPS)), Task("regression", "yield", unit="t/ha")
    return write_paired_set(
        folder,
        name="simulated" if classification else "simulated-regression",
        modalities={"optical": optical_modality(), "sar": sar_modality()},
        arrays={"optical": optical, "sar": sar},
        target=fields.crop if classification else _harvest(rng, fields),
        task=kinds[0] if classification else kinds[1],
        groups=fields.site,
        source={"title": TITLE, "licence": LICENCE, "citation": CITATION, "fields": str(n), "seed": str(seed)},
    )


def optical_modality() -> Modality:
    """12 months of surface reflectance (0..1) in 11 Sentinel-2 bands, and NDVI (-1..1)."""
    bands = (*(Band(name, "reflectance", common) for name, common, *_ in SPECTRA), Band("NDVI"))
    return Modality("optical", bands, ("time", "band"), (12, len(bands)), "Sentinel-2 MSI (simulated)", MONTHS)


def sar_modality() -> Modality:
    """12 months of backscatter (sigma nought, dB), VV and VH."""
    bands = tuple(Band(name, "dB") for name, *_ in RADAR)
    return Modality("sar", bands, ("time", "band"), (12, len(bands)), "Sentinel-1 C-SAR (simulated)", MONTHS)


def _grow(rng: np.random.Generator, n: int) -> _Fields:
    shares = np.cumsum([crop[1] for crop in CROPS])
    crop = np.searchsorted(shares, (rng.permutation(n) + 0.5) / n).clip(max=len(CROPS) - 1)  # exact shares
    site = rng.integers(SITES, size=n)
    start, end, top, chlorophyll, structure = (np.array([row[i] for row in CROPS], float)[crop] for i in range(2, 7))
    shift = rng.normal(0, 9, SITES)[site]  # days: climate of the site
    start = start + shift + rng.normal(0, 11, n)
    end = end + shift + rng.normal(0, 11, n)
    top = top * rng.lognormal(0, 0.20, n) * rng.lognormal(0, 0.12, SITES)[site]
    rise = _logistic(0.09 * (DAYS - start[:, None]))  # (n, 12)
    fall = _logistic(0.08 * (end[:, None] - DAYS))
    lai = 0.2 + top[:, None] * np.clip(rise + fall - 1, 0, None)
    season = 0.05 * np.cos(2 * np.pi * (DAYS - 20) / 365)  # wet winters
    weather = rng.normal(0, 0.035, (SITES, 12)) + rng.normal(0.20, 0.045, (SITES, 1))
    return _Fields(
        crop=crop.astype(np.int64),
        site=site.astype(np.int64),
        lai=lai,
        senescence=_logistic(0.09 * (DAYS - end[:, None] - 4)) * _logistic(0.09 * (DAYS - start[:, None])),
        moisture=np.clip((weather + season)[site] + rng.normal(0, 0.025, (n, 12)), 0.03, 0.45),
        chlorophyll=np.clip(chlorophyll + rng.normal(0, 0.16, n) + rng.normal(0, 0.07, SITES)[site], 0, 1),
        structure=structure * rng.lognormal(0, 0.24, n),
    )


def _see_optical(rng: np.random.Generator, fields: _Fields) -> np.ndarray:
    """(n, 12, 12) float64: 11 bands and NDVI; NaN where it is cloudy."""
    n = len(fields.crop)
    pale, dark, dry, soil = (np.array([row[i] for row in SPECTRA]) for i in range(2, 6))  # (11,) each
    green = pale + (dark - pale) * fields.chlorophyll[:, None]  # (n, 11)
    brown = fields.senescence[..., None]  # (n, 12, 1)
    plant = (1 - brown) * green[:, None] + brown * dry
    bright = rng.lognormal(0, 0.22, SITES)[fields.site]
    wet = 0.45 + 0.55 * np.exp(-6.0 * fields.moisture)  # (n, 12)
    ground = (bright[:, None] * wet)[..., None] * 1.3 * soil
    cover = (1 - np.exp(-0.55 * fields.lai))[..., None]
    reflectance = cover * plant + (1 - cover) * ground  # (n, 12, 11)
    haze = rng.gamma(1.5, 0.008, (n, 12, 1)) * np.linspace(1.6, 0.4, len(SPECTRA))  # residual aerosol, more in the blue
    noise = rng.normal(0, 0.05, reflectance.shape)
    reflectance = np.clip(reflectance * (1 + noise) + haze + rng.normal(0, 0.006, reflectance.shape), 0.001, 1)
    names = [row[0] for row in SPECTRA]
    red, nir = reflectance[..., names.index("B04")], reflectance[..., names.index("B08")]
    optical = np.concatenate([reflectance, ((nir - red) / (nir + red))[..., None]], axis=2)
    cloudy = 0.30 + 0.20 * np.cos(2 * np.pi * (DAYS - 5) / 365) + rng.normal(0, 0.06, (SITES, 1))[fields.site]
    optical[rng.random((n, 12)) < cloudy] = np.nan
    return optical


def _see_radar(rng: np.random.Generator, fields: _Fields) -> np.ndarray:
    """(n, 12, 2) float64: VV and VH in dB, from linear power with speckle."""
    n = len(fields.crop)
    cosine = np.cos(np.radians(rng.normal(38, 2.5, SITES)))[fields.site][:, None]  # incidence angle of the site
    rough = rng.normal(0, 0.8, SITES)[fields.site][:, None]  # dB
    water = fields.lai * fields.structure[:, None] * (1 - 0.7 * fields.senescence)  # (n, 12) kg/m2
    power = np.empty((n, 12, len(RADAR)))
    for i, (_, scatter, attenuation, dry, wet) in enumerate(RADAR):
        through = np.exp(-2 * attenuation * water / cosine)  # two-way transmission
        ground = 10 ** ((dry + wet * fields.moisture + rough) / 10)
        power[..., i] = scatter * water * cosine * (1 - through) + through * ground
    speckle = rng.gamma(LOOKS, 1 / LOOKS, power.shape)
    return np.asarray(10 * np.log10(power * speckle))


def _harvest(rng: np.random.Generator, fields: _Fields) -> np.ndarray:
    """Yield (n,) in t/ha: absorbed light (shared) x chlorophyll (optical) x stand and water (radar) x the unseen."""
    light = 1 + 0.7 * np.cos(2 * np.pi * (DAYS - 172) / 365)
    absorbed = ((1 - np.exp(-0.55 * fields.lai)) * (1 - fields.senescence) * light).sum(axis=1)  # months of full light
    stress = np.clip(fields.moisture[:, 4:9].mean(axis=1) / 0.18, 0.6, 1.1)
    efficiency = 0.3 + 1.2 * fields.chlorophyll
    return np.asarray(
        1.6 * absorbed * efficiency * stress * fields.structure**0.3 * rng.lognormal(0, 0.08, len(absorbed))
    )


def _logistic(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))
