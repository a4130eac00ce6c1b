import datetime

import numpy as np
import pytest

from edge.errors import InputError
from edge.train.dates import SEASONS, dates, months_of, season_counts, season_of


@pytest.mark.parametrize(
    "text", ["2019-06-30", "20190630", " 2019-06-30 ", "2019-06-30T23:59:07Z", "2019-06-30 23:59:07.125+02:00"]
)
def test_iso_8601_text_gives_the_day_that_it_names(text):
    assert dates(np.array([text]), "day").tolist() == [datetime.date(2019, 6, 30)]


def test_datetime64_and_date_objects_give_their_days():
    times = np.array(["2019-06-30T23:59", "1965-12-31T23:59", "NaT"], "datetime64[ms]")
    found = dates(times, "day")
    assert found.dtype == np.dtype("datetime64[D]")
    assert found.tolist() == [datetime.date(2019, 6, 30), datetime.date(1965, 12, 31), None]
    objects = np.array([datetime.date(2019, 6, 30), datetime.datetime(1965, 12, 31, 23, 59), None], object)
    assert dates(objects, "day").tolist() == found.tolist()


def test_an_empty_cell_is_a_day_that_is_not_known():
    assert np.isnat(dates(np.array(["", "NA", "null", "NaT", "2019-06-30"]), "day")).tolist() == [True] * 4 + [False]


@pytest.mark.parametrize("text", ["30/06/2019", "2019-06", "2019", "2019-0630", "2019-02-29", "2019-06-30Tea", "18077"])
def test_what_is_no_date_is_refused_with_its_row(text):
    with pytest.raises(InputError, match=rf"column 'day', data row 2: '{text}' is not a date; write it as 2019-06-30"):
        dates(np.array(["2019-06-30", text]), "day")


def test_a_month_or_a_number_is_no_day():
    with pytest.raises(InputError, match=r"column 'day' holds datetime64\[M\], which is no day"):
        dates(np.array(["2019-06"], "datetime64[M]"), "day")
    with pytest.raises(InputError, match=r"data row 1: '18077' is not a date"):
        dates(np.array([18077]), "day")


def test_every_day_of_seven_years_lies_in_the_quarter_of_its_month():
    days = np.arange("1967-01-01", "1974-01-01", dtype="datetime64[D]")
    quarters = {12: "DJF", 1: "DJF", 2: "DJF", 3: "MAM", 4: "MAM", 5: "MAM"}
    quarters |= {6: "JJA", 7: "JJA", 8: "JJA", 9: "SON", 10: "SON", 11: "SON"}
    months = [day.month for day in days.tolist()]
    assert months_of(days).tolist() == months
    assert [SEASONS[i] for i in season_of(days)] == [quarters[month] for month in months]


def test_days_that_are_not_known_are_counted_apart():
    days = np.array(["2018-12-31", "2019-01-01", "NaT", "2019-07-04"], "datetime64[D]")
    assert season_counts(days) == {"DJF": 2, "MAM": 0, "JJA": 1, "SON": 0, "unknown": 1}
