"""Numbers, places, dates and CSVs as exports write them: read, or counted and named with an example."""

import datetime
import math

import numpy as np
import pandas as pd
import pytest

from dataset_tools import csv_files, dates, places
from dataset_tools.competitions import find
from dataset_tools.unread import Unread
from pipeline.errors import UserError
import raw_data
import tiny_places


def read_date(*values):
    unread = Unread("f")
    found, count = dates.read(values, unread)
    return found, unread.lines({"dates": count})


@pytest.mark.parametrize("text", [
    "2019-05-04", "2019/05/04", "2019.5.4", "2019:05:04 12:00:00", "20190504", 20190504, "2019-05-04T12:00:00Z",
    "2019-05-04 23:59:59-07:00", "2019-05-04 12:00:00 UTC", "2019-05-04T12:00:00.123+0200", "20190504T120000Z",
    "Sat May 04 2019 12:00:00 GMT-0700 (PDT)", "Sat May  4 12:00:00 2019", "4 May 2019", "May 4, 2019 3:15 PM", "04-MAY-2019",
    "2019-124", "2019-W18-6", "2019-05-04/2019-05-04", "2019-05-03/05", "2019-05-04T10:00/2019-05-04T12:00",
    datetime.date(2019, 5, 4), pd.Timestamp("2019-05-04 12:00"), " 2019-05-04 "])
def test_dates_that_name_one_day(text):
    assert read_date(text) == ([pd.Timestamp("2019-05-04").dayofyear / 365], [])


def test_every_day_as_pandas_has_it():
    days = pd.date_range("2019-01-01", "2020-12-31")
    expected = [day.dayofyear / (366 if day.is_leap_year else 365) for day in days]
    for written in ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%b %d, %Y", "%Y-%j", "%G-W%V-%u"):
        found, told = read_date(*days.strftime(written))
        np.testing.assert_allclose(found, expected)
        assert not told


@pytest.mark.parametrize("texts, expected, words", [
    (["04/05/2019"], [math.nan], ["1 of 1 dates may have the day or the month first", "'04/05/2019'"]),
    (["04/05/2019", "13/05/2019"], [124, 133], []),
    (["04/05/2019", "05/13/2019"], [95, 133], []),
    (["04/05/2019", "13/05/2019", "05/13/2019"], [math.nan, 133, 133], ["1 of 3 dates may have", "'04/05/2019'"]),
    (["04/05/2019", "13.05.2019"], [math.nan, 133], ["1 of 2 dates may have"]),
    (["05/05/2019"], [125], []),
    (["2019-05", "2019", "May 2019", "2019-05-00"], [math.nan] * 4, ["4 of 4 dates name no day", "'2019-05'"]),
    (["2019-01-01/2019-12-31"], [math.nan], ["are intervals of more than a month"]),
    (["yesterday", "2019-02-30", "04/05/19", "43589", 1556928000000], [math.nan] * 5, ["5 of 5 dates can't be read", "'yesterday'"]),
    ([None, "", "NA", float("nan"), "2019-05-04"], [math.nan] * 4 + [124], []),
])
def test_what_is_told_of_dates(texts, expected, words):
    found, told = read_date(*texts)
    np.testing.assert_allclose([365 * one for one in found], expected)
    assert bool(told) == bool(words) and all(word in told[0] for word in words)


@pytest.mark.parametrize("pair, expected, wrong", [
    (("10.5", "20"), (10.5, 20), ""), (("10,5", "-0,25"), (10.5, -0.25), ""), ((-10, 270), (-10, -90), ""),
    (("\u221210.5", "1e1"), (-10.5, 10), ""), ((90, 180), (90, 180), ""), ((None, "NA"), None, ""),
    (("91", "200"), None, "not on Earth, such as"), (("120", "10"), None, "exchanged?"), ((0, "0.0"), None, "(0, 0)"),
    (("", 5), None, "alone"), (("10°30'N", "5"), None, "can't be read"), (("1,234.5", "3"), None, "can't be read"),
    ((True, 3), None, "can't be read"), ((5, -190), None, "not on Earth")])
def test_places(pair, expected, wrong):
    unread = Unread("f")
    found, count = places.read([pair], unread)
    told = " ".join(unread.lines({"places": count}))
    assert wrong in told and bool(told) == bool(wrong)
    assert found == [expected] if expected else all(map(math.isnan, found[0]))


def test_a_geo_prior_without_places_is_told_what_they_look_like(tmp_path):
    raw = tiny_places.write_inat2021(tmp_path / "raw")
    content = raw_data.json.loads((raw / "train.json").read_text())
    for image in content["images"]:
        image.update(latitude="10 N", longitude="5 E")
    raw_data.write(raw / "train.json", content)
    done = raw_data.run_command("train_geo_prior.py", "--competition=inat2021", f"--data_dir={raw}", f"--model_dir={tmp_path}/m")
    count = len(content["images"])
    raw_data.assert_one_line_mistake(done, f"{count} of {count} places can't be read", "'10 N'", "train.json")


def test_text_in_the_json_of_other_years_and_ids_that_became_fractions(tmp_path):
    raw_data.write(tmp_path / "train2018.json", {
        "images": [{"id": 1.0, "file_name": "a.jpg"}, {"id": "2", "file_name": "b.jpg"}],
        "categories": [{"id": "5", "name": "five", "kingdom": "Animalia", "class": "Aves"}],
        "annotations": [{"image_id": 1, "category_id": 5.0}, {"image_id": 2, "category_id": "5"}]})
    raw_data.write(tmp_path / "train2018_locations.json", [
        {"id": "1", "lat": "10,5", "lon": "270", "date_c": "0.25", "valid": "true", "user_id": 4.0}, {"id": 2, "lat": 1, "lon": 2,
                                                                                                      "date_c": 3}])
    table = find("inat2018").read(str(tmp_path))
    one, two = table.examples.itertuples()
    assert (one.latitude, one.longitude, one.date, one.user) == (10.5, -90, 0.25, "4") and math.isnan(two.date)
    assert "1 of 2 dates are no share of the year, from 0 to 1, such as 3" in table.unread[0]
    assert table.taxonomy[0] == {"kingdom": "Animalia", "class": "Aves", "species": "five"}


def rows_of(folder, content, columns=("path", "label")):
    path = folder / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [tuple(row.values()) for row in csv_files.read_rows(str(path), columns)]


@pytest.mark.parametrize("content", [
    "path,label\na,b\nc,d\n", "path;label\na;b\nc;d", "path\tlabel\r\na\tb\r\nc\td\r\n", "path|label\na|b\nc|d\n",
    "\ufeffpath,label\na,b\nc,d\n", "path,label\na,b\nc,d\n".encode("utf-16"), "sep=;\npath;label\na;b\nc;d\n",
    " path , label ,\n a , b ,\n\n,,\nc,d,\n", '"path","label"\n"a","b"\n"c","d"\n', "label,path\rb,a\rd,c\r",
    'path,label,note\na,b,"two\nlines, of text"\nc,d,\n', '"path"\t"label"\n"a"\tb\nc\td\n'])
def test_tables_that_are_understood(tmp_path, content):
    assert rows_of(tmp_path, content) == [("a", "b"), ("c", "d")]


def test_what_stands_in_fields_stays(tmp_path):
    assert rows_of(tmp_path, 'path,label\n007,"a, ""b"""\n') == [("007", 'a, "b"')]
    assert rows_of(tmp_path, 'path\tlabel\n1\t5" long\n2\t"x\n') == [("1", '5" long'), ("2", '"x')]


@pytest.mark.parametrize("content, words", [
    ('path,label\na,b\nc,"d\ne,f\n', ("line 3", "opened and not closed")),
    ('path,label\na,"b\nc,d"\n', ("line 2", "label runs over several lines")),
    ('path,label\na,"b\nc,"d"\n', ("line 2", "quote")),
    ('path,label\na,"b"x\n', ("line 2", "quote")),
    ('path,label,note\na,b,"n\nc,d,e"\nf,g,h\n', ("line 2", "note runs over lines that look like rows")),
    ('path,label,x,y\na,b,"n,1\nc,d,e,f\ng,h,i",1\n', ("line 2", "x runs over lines that look like rows")),
    ("path,label\na,b,c\n", ("line 2 has 3 fields, the header has 2", "in quotes")),
    ("path,label,note\na,b,\nc,d\n", ("line 3 has 2 fields, the header has 3",)),
    ("path\tlabel\na\tb\tc\n", ("line 2 has 3 fields",)),
    ("path,label,label\na,b,c\n", ("the column label 2 times",)),
    ("a,b\nc,d\n", ("no column path", "'a', 'b'", "header?")),
    ("path,label\na,\n", ("row 1 (line 2) has no label",)),
    ("", ("empty",)), ("\n \n", ("empty",)), ("path,label\n", ("no rows",)),
    ("path,label\na,caf\xe9\n".encode("latin-1"), ("line 2", "0xe9", "UTF-8")),
    ("path,label\na,b\n".encode("utf-16-le"), ("NUL", "UTF-8"))])
def test_broken_tables_are_one_line_with_file_and_row(tmp_path, content, words):
    with pytest.raises(UserError) as raised:
        rows_of(tmp_path, content)
    assert "\n" not in str(raised.value)
    for word in ("t.csv", *words):
        assert word in str(raised.value)
