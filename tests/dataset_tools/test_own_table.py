"""A table of one's own as it is read: columns, splits, groups, labels, taxonomy, exports of iNaturalist and GBIF."""

import collections
import math
import random

import pytest

from dataset_tools.competitions import find
from dataset_tools.table_asked import Asked
from pipeline.errors import UserError
import own_table
from raw_data import write


def read(folder, *columns, **asked):
    return find("table", Asked(columns=columns, **asked)).read(str(folder))


def table_of(folder, text, name="table.csv", encoding="utf-8"):
    write(folder / name, text.encode(encoding))
    return folder


def by_id(table):
    return {one.id: one for one in table.examples.itertuples()}


def test_names_of_columns_are_known_or_told(tmp_path):
    write(tmp_path / "pics" / "a.jpg", b"a")
    table_of(tmp_path, "File Name;Species;Decimal_Latitude;Lng;Observed on;split\n"
                       "pics/a.jpg;Apus apus;10,5;350,25;2020-02-29;Training\nb.jpg;Bufo bufo;;;;validation\n"
                       "c.jpg;Bufo bufo;1;2;;trn\nd.jpg;;1;2;;Test\n")
    table = read(tmp_path)
    found = by_id(table)
    assert {one.id: one.split for one in found.values()} == {
        "pics/a.jpg": "train", "b.jpg": "val", "c.jpg": "train", "d.jpg": "test"}
    assert (found["pics/a.jpg"].latitude, found["pics/a.jpg"].longitude) == (10.5, -9.75)
    assert found["pics/a.jpg"].date == 60 / 366 and math.isnan(found["b.jpg"].latitude)
    assert table.classes == [("Apus apus", "Apus apus"), ("Bufo bufo", "Bufo bufo")]
    table_of(tmp_path, "x,y,z\n1,cat,007\n2,dog,008\n")
    assert sorted(by_id(read(tmp_path, "path:x", "label:y", "id:z", val_share=0.0))) == ["007", "008"]


@pytest.mark.parametrize("text, columns, words", [
    ("a.jpg,cat\nb.jpg,dog\n", (), ("no column path", "a.jpg", "--columns=path:NAME")),
    ("path,species\n1,a\n", ("label:kind",), ("--columns=label:kind", "path, species")),
    ("path,species\n1,a\n", ("kind:species",), ("unknown column of --columns", "'kind'", "latitude")),
    ("path,species\n1,a\n", ("species",), ("--columns", "'species'", "path:file")),
    ("path,label,split\n1,a,train\n2,a,holdout\n", (), ("line 3", "'holdout'", "validation")),
    ("path,label\n1,a\n1,b\n", (), ("line 3", "id 1 stands in line 2")),
    ("path,label\n1,\n2,\n", (), ("no row of train has a label",)),
    ("path,label\n,a\n", (), ("line 2 names no picture",)),
    ("path,label\n1,\"a\n2,b\n", (), ("line 2", "quote")),
    ("path,label\n1,a,b\n", (), ("line 2 has 3 fields, the header has 2",)),
    ("path,label\n1,\"a\n2,b\"\n", (), ("line 2", "the label runs over several lines")),
    ("path,label,split,camera\n1,a,train,k\n2,a,val,k\n3,a,train,\n", (), ("line 3", "group 'k' (camera)", "line 2")),
])
def test_mistakes_are_one_line_with_file_and_row(tmp_path, text, columns, words):
    table_of(tmp_path, text)
    with pytest.raises(UserError) as raised:
        read(tmp_path, *columns)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


def test_a_group_that_is_none_and_an_unlabelled_member(tmp_path):
    table_of(tmp_path, "path,label,split,camera\n1,a,train,k\n2,a,val,k\n")
    assert set(read(tmp_path, "group:").examples["group"]) == {""}
    table_of(tmp_path, "path,label,split,camera\n1,a,train,k\n2,,test,k\n3,a,val,l\n")  # what is to be predicted scores nothing
    assert by_id(read(tmp_path))["2"].split == "test"


def test_val_is_drawn_by_class_and_by_whole_groups_whatever_the_order_of_the_rows(tmp_path):
    rows = own_table.rows(count=600, test=10)
    own_table.write_csv(tmp_path / "table.csv", rows)
    table = read(tmp_path, val_share=0.2)
    splits = {one.id: one.split for one in table.examples.itertuples()}
    of_group = collections.defaultdict(set)
    for one in rows:
        if one["label"]:
            of_group[one["group"]].add(splits[one["path"]])
    assert all(len(found) == 1 for found in of_group.values())
    counts = collections.Counter((splits[one["path"]], one["label"]) for one in rows)
    assert all(36 <= counts["val", label] <= 44 for label in own_table.LABELS)
    assert collections.Counter(splits.values())["test"] == 10
    random.Random(1).shuffle(rows)
    own_table.write_csv(tmp_path / "table.csv", rows)
    assert {one.id: one.split for one in read(tmp_path, val_share=0.2).examples.itertuples()} == splits
    assert "val" not in set(read(tmp_path, val_share=0.0).examples["split"])


def test_of_each_class_some_stay_in_train(tmp_path):
    own_table.write_csv(tmp_path / "table.csv", [
        {"path": f"{number}", "label": f"c{number // 2 % 30}", "group": f"g{number % 13}"} for number in range(90)])
    table = read(tmp_path, val_share=0.5)
    train = table.examples[table.examples["split"] == "train"]
    assert {label for labels in train["labels"] for label in labels} == set(range(30))
    assert not set(train["group"]) & set(table.examples[table.examples["split"] == "val"]["group"])


def test_what_train_does_not_know_is_set_aside_with_the_reason(tmp_path, caplog):
    table_of(tmp_path, "path,label,split\n1,a,train\n2,b,train\n3,z,val\n4,,val\n5,z,test\n6,,train\n")
    table = read(tmp_path)
    assert {one.id: one.reason for one in table.rejected} == {
        "3": "labelled z, which no row of train is", "4": "of val and without a label", "6": "of train and without a label"}
    assert by_id(table)["5"].labels == () and "3 rows are set aside" in caplog.text


def test_words_that_may_mean_nothing_and_labels_alike_are_told(tmp_path, caplog):
    table_of(tmp_path, "path,label\n1,Cat\n2,cat\n3,NA\n4,dog\n")
    assert len(read(tmp_path).classes) == 4
    assert "'NA', which is taken for a class" in caplog.text and "differ in capitals or spaces alone" in caplog.text


@pytest.mark.parametrize("one, other", [("a|b", "b"), ("a;b", "b"), ('"a,b"', "b"), ("a b", "b"),
                                        ('"[""a"", ""b""]"', '"[""b""]"'), ("\"['a', 'b']\"", "\"['b']\""), ("a|b|a", "b")])
def test_several_labels(tmp_path, one, other):
    table_of(tmp_path, f"path,labels\n1,{one}\n2,{other}\n3,\n")
    table = read(tmp_path, val_share=0.0)
    assert table.multi_label and [name for name, _ in table.classes] == ["a", "b"]
    found = by_id(table)
    assert (found["1"].labels, found["2"].labels, found["3"].split) == ((0, 1), (1,), "test")


def test_pictures_are_found_by_path_name_ending_and_id(tmp_path):
    for name in ("images/A.JPG", "images/b.png", "images/deep/c.webp", "d.jpg"):
        write(tmp_path / name, b"x")
    table_of(tmp_path, "image,label\nimages\\A.JPG,x\nimages/b,x\nc,x\n./d.jpg,x\nimages/a.jpg,y\ngone.jpg,y\n")
    found = {one.id: one.path for one in read(tmp_path, val_share=0.0).examples.itertuples()}
    assert found == {"images\\A.JPG": "images/A.JPG", "images/b": "images/b.png", "c": "images/deep/c.webp", "./d.jpg": "d.jpg",
                     "images/a.jpg": "images/A.JPG", "gone.jpg": "gone.jpg"}
    write(tmp_path / "other" / "c.webp", b"x")
    with pytest.raises(UserError, match="c may be images/deep/c.webp or other/c.webp"):
        read(tmp_path)


def test_paths_from_the_tables_own_folder(tmp_path):
    write(tmp_path / "set" / "a.jpg", b"x")
    table_of(tmp_path / "set", "path,label\na.jpg,x\n", "mine.csv")
    table = find("table", Asked(table=str(tmp_path / "set" / "mine.csv"))).read(str(tmp_path))
    assert list(table.examples["path"]) == ["set/a.jpg"]


def test_an_export_of_inaturalist(tmp_path, caplog):
    for name in ("101.jpg", "202.jpeg"):  # by the observation's id, and by the photo's
        write(tmp_path / name, b"x")
    header = ("id,uuid,observed_on_string,observed_on,time_zone,user_id,user_login,url,image_url,description,latitude,longitude,"
              "scientific_name,common_name,taxon_kingdom_name,taxon_class_name,taxon_genus_name,taxon_species_name\n")
    rows = [("101", "2019-05-04", "9001", "Apus apus", "Aves", "Apus"), ("102", "2019/05/05", "202", "Bufo bufo", "Amphibia", "Bufo"),
            ("103", "", "303", "Bufo bufo", "Amphibia", "Bufo")]
    text = "".join(f'{one},u,"Sat May 04 2019",{day},UTC,7,anna,https://www.inaturalist.org/observations/{one},'
                   f'https://x.org/photos/{photo}/medium.jpg,"seen, twice\nby ""me""",46.5,7.5,{name},a {genus},Animalia,{rank},{genus},'
                   f'{name}\n' for one, day, photo, name, rank, genus in rows)
    table = read(table_of(tmp_path, header + text, "observations-123.csv"), val_share=0.0)
    found = by_id(table)
    assert {one: found[one].path for one in found} == {"101": "101.jpg", "102": "202.jpeg", "103": "103"}
    assert found["101"].date == 124 / 365 and found["102"].user == "7" and found["101"].latitude == 46.5
    assert table.classes == [("Apus apus", "a Apus"), ("Bufo bufo", "a Bufo")]
    assert table.taxonomy[0] == {"kingdom": "Animalia", "class": "Aves", "genus": "Apus", "species": "Apus apus"}


def test_an_export_of_gbif_with_its_multimedia(tmp_path):
    write(tmp_path / "p_9.jpg", b"x")
    table_of(tmp_path, "gbifID\tdecimalLatitude\tdecimalLongitude\teventDate\trecordedBy\tkingdom\tclass\tfamily\tgenus\tspecies\t"
             "scientificName\n"
             '1\t46.5\t7.5\t2019-05-04/2019-05-06\t"Anna" B.\tAnimalia\tAves\tApodidae\tApus\tApus apus\tApus apus (L., 1758)\n'
             "2\t\t\t2019-05\t\tAnimalia\tAmphibia\tBufonidae\tBufo\tBufo bufo\tBufo bufo (L., 1758)\n", "occurrence.txt")
    table_of(tmp_path, "gbifID\ttype\tformat\tidentifier\n1\tStillImage\timage/jpeg\thttps://x.org/a/p_9.jpg\n"
             "1\tStillImage\timage/jpeg\thttps://x.org/a/q.jpg\n1\tSound\taudio\thttps://x.org/a/s.mp3\n"
             "2\tStillImage\timage/jpeg\thttps://x.org/a/r.jpg\n", "multimedia.txt")
    table = read(tmp_path, val_share=0.0)
    found = by_id(table)
    assert {one: (found[one].path, found[one].group) for one in found} == {
        "1_1": ("p_9.jpg", "1"), "1_2": ("1_2", "1"), "2": ("2", "2")}
    assert found["1_1"].date == 125 / 365 and found["1_1"].user == '"Anna" B.' and math.isnan(found["2"].date)
    assert table.classes[0][0] == "Apus apus" and table.taxonomy[0]["family"] == "Apodidae"
    assert table.unread == (f"{tmp_path}/occurrence.txt: 1 of 3 dates name no day, such as '2019-05'",)


def test_taxonomy_csv(tmp_path):
    table_of(tmp_path, "path,label\n1,apus\n2,bufo\n")
    table_of(tmp_path, "label,kingdom,class,name\napus,Animalia,Aves,Common swift\n", "taxonomy.csv")
    table = read(tmp_path, val_share=0.0)
    assert table.classes == [("apus", "Common swift"), ("bufo", "bufo")]
    assert list(table.taxonomy) == [{"kingdom": "Animalia", "class": "Aves"}, {}]


def test_which_file_it_is(tmp_path):
    with pytest.raises(UserError, match="no table.csv in the data folder .*there is no table.*--table=FILE.csv"):
        read(tmp_path)
    table_of(tmp_path, "path,label\n1,a\n", "labels.csv")
    assert len(read(tmp_path).examples) == 1
    table_of(tmp_path, "path,label\n1,a\n", "more.csv")
    with pytest.raises(UserError, match="there are labels.csv, more.csv"):
        read(tmp_path)
    with pytest.raises(UserError, match="--table: .*none.csv does not exist"):
        read(tmp_path, table=str(tmp_path / "none.csv"))
    with pytest.raises(UserError, match="--val_share is for --competition=table, not folder"):
        find("folder", Asked(val_share=0.2))


def test_parquet_where_pandas_reads_it(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": ["1.jpg", "2.jpg"], "label": [3.0, 4.0], "latitude": [1.5, None],
                              "longitude": [2.5, None], "date": pandas.to_datetime(["2020-02-29", None])})
    path = tmp_path / "table.parquet"
    try:
        frame.to_parquet(path)
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(UserError, match="pip install pyarrow"):
            read(tmp_path)
        return
    found = by_id(read(tmp_path, val_share=0.0))
    assert (found["1.jpg"].latitude, found["1.jpg"].date) == (1.5, 60 / 366) and math.isnan(found["2.jpg"].date)


def test_the_fingerprint_changes_with_table_columns_and_share(tmp_path):
    table_of(tmp_path, "path,label\n1,a\n")
    prints = {find("table", one).fingerprint(str(tmp_path)) for one in (
        Asked(), Asked(columns=("id:path",)), Asked(val_share=0.3))}
    table_of(tmp_path, "path,label\n1,b\n")
    assert len(prints | {find("table").fingerprint(str(tmp_path))}) == 4
