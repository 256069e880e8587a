"""AIforCOVID-like sets made by the test: tables, boxes, masks, folds, patients."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensgan.data import load_dataset
from ensgan.data.table import read_table
from ensgan.errors import DataError

WriteDicom = Callable[..., Path]
SIZE = 48


def chest(index: int, severe: bool) -> np.ndarray:
    """Stored 12-bit values, bright in the upper left when severe."""
    values = np.random.default_rng(index).integers(500, 1500, (SIZE, SIZE + 10))
    if severe:
        values[: SIZE // 2, : SIZE // 2] += 2000
    return values.astype(np.uint16)


def rows(count: int = 24) -> list[tuple[str, str, str]]:
    """(image name, prognosis, patient); two images a patient."""
    return [
        (f"P_{index}", "SEVERE" if index // 2 % 3 == 0 else "MILD", f"patient{index // 2}")
        for index in range(count)
    ]


@pytest.fixture
def covid(tmp_path: Path, write_dicom: WriteDicom) -> Path:
    root = tmp_path / "covid"
    lines = ["ImageFile,Hospital,Prognosis,PatientID"]
    for index, (name, label, patient) in enumerate(rows()):
        values = chest(index, label == "SEVERE")
        tags = {"WindowCenter": 2048, "WindowWidth": 4096}
        if index % 4 == 1:
            values = 4095 - values
            tags["PhotometricInterpretation"] = "MONOCHROME1"
        write_dicom(root / "dicom" / f"{name}.dcm", values, **tags)
        lines.append(f"{name},A,{label},{patient}")
    (root / "clinical.csv").write_text("\n".join(lines))
    return root


def test_the_default_layout_is_read(covid: Path) -> None:
    dataset = load_dataset("aiforcovid", root=covid)
    assert dataset.class_names == ("MILD", "SEVERE")
    assert dataset.shape.size == 32
    assert sum(len(split) for split in dataset.splits().values()) == 24
    for split in dataset.splits().values():
        assert len(split) % 2 == 0  # whole patients
        # Both photometric kinds look alike: only severe ones are bright in the upper left.
        bright = split.images[:, 2:12, 2:12].mean(axis=(1, 2)) > 100
        np.testing.assert_array_equal(bright, split.labels == 1)


def test_tags_tell_patients_when_the_table_does_not(covid: Path, write_dicom: WriteDicom) -> None:
    table = covid / "clinical.csv"
    table.write_text(table.read_text().replace("PatientID", "Other"))
    for index, (name, label, patient) in enumerate(rows()):
        values = chest(index, label == "SEVERE")
        write_dicom(covid / "dicom" / f"{name}.dcm", values, PatientID=patient)
    dataset = load_dataset("aiforcovid", root=covid)
    assert all(len(split) % 2 == 0 for split in dataset.splits().values())
    for index, (name, label, _) in enumerate(rows()):
        values = chest(index, label == "SEVERE")
        write_dicom(covid / "dicom" / f"{name}.dcm", values, PatientID="ANONYMOUS")
    assert sum(map(len, load_dataset("aiforcovid", root=covid).splits().values())) == 24


def workbook(path: Path, lines: list[list[str]]) -> None:
    """A minimal Excel workbook: shared strings, inline strings and a number."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    strings = sorted({cell for line in lines for cell in line})
    shared = "".join(
        f"<si><r><t>{text[:2]}</t></r><r><t>{text[2:]}</t></r></si>" for text in strings
    )
    body = ""
    for number, line in enumerate(lines, start=1):
        cells = "".join(
            f'<c r="{"ABCDEFG"[column]}{number}" t="s"><v>{strings.index(cell)}</v></c>'
            for column, cell in enumerate(line)
            if cell
        )
        inline = f'<c r="F{number}" t="inlineStr"><is><t>note{number}</t></is></c>'
        value = f'<c r="G{number}"><v>{number}.5</v></c>'
        body += f'<row r="{number}">{cells}{inline}{value}</row>'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{shared}</sst>")
        book.writestr(
            "xl/worksheets/sheet1.xml",
            f"<worksheet {space}><sheetData>{body}</sheetData></worksheet>",
        )


def test_excel_tables_are_read_like_csv(covid: Path) -> None:
    expected = load_dataset("aiforcovid", root=covid)
    lines = [line.split(",") for line in (covid / "clinical.csv").read_text().splitlines()]
    workbook(covid / "clinical.xlsx", lines)
    (covid / "clinical.csv").unlink()
    table = read_table(covid / "clinical.xlsx")
    assert table.columns[:4] == ("ImageFile", "Hospital", "Prognosis", "PatientID")
    assert table.rows[0]["ImageFile"] == "P_0"
    assert table.rows[0]["note1"] == "note2"
    assert load_dataset("aiforcovid", root=covid).key == expected.key


def test_few_bytes_that_stand_for_very_many_cells_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ensgan.data.table._MAX_CELLS", 50_000)
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    rows = "".join(f'<row><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 9))
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as book:
        sheet = f"<worksheet {space}><sheetData>{rows}</sheetData></worksheet>"
        book.writestr("xl/worksheets/sheet1.xml", sheet)
    columns = ",".join(f"c{n}" for n in range(1000))
    (tmp_path / "a.csv").write_text(f"{columns}\n" + "x\n" * 100)
    for name in ("a.xlsx", "a.csv"):
        with pytest.raises(DataError, match=r"has more than 50,000 cells"):
            read_table(tmp_path / name)


@pytest.mark.parametrize("target", ["worksheets/sheet2.xml", "/xl/worksheets/sheet2.xml"])
def test_the_first_sheet_is_the_one_that_is_shown_first(tmp_path: Path, target: str) -> None:
    workbook(tmp_path / "a.xlsx", [["file", "label"], ["0.png", "old"]])
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    listed = "".join(
        f'<sheet name="{name}" {state} r:id="{name}"/>'
        for name, state in (("r3", 'state="hidden"'), ("r2", ""), ("r1", ""))
    )
    with zipfile.ZipFile(tmp_path / "a.xlsx", "a") as book:
        rows = "".join(
            "<row>"
            + "".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in line)
            + "</row>"
            for line in (("file", "label"), ("0.png", "new"))
        )
        sheet = f"<worksheet {space}><sheetData>{rows}</sheetData></worksheet>"
        book.writestr("xl/worksheets/sheet2.xml", sheet)
        links = "".join(
            f'<Relationship Id="r{n}" Target="{place}"/>'
            for n, place in ((1, "worksheets/sheet1.xml"), (2, target), (3, "worksheets/no.xml"))
        )
        book.writestr("xl/_rels/workbook.xml.rels", f"<Relationships>{links}</Relationships>")
        book.writestr("xl/workbook.xml", f'<workbook {space} xmlns:r="{kind}">{listed}</workbook>')
    assert read_table(tmp_path / "a.xlsx").rows[0]["label"] == "new"


def test_boxes_and_masks_cut_the_lungs(covid: Path) -> None:
    boxes = ["ImageFile,left,top,right,bottom"]
    masks = covid / "masks"
    masks.mkdir()
    for name, _, _ in rows():
        boxes.append(f"{name},4,6,20,22")
        mask = np.zeros((SIZE, SIZE + 10), np.uint8)
        mask[6:22, 4:20] = 255
        mask[6, 4] = 0
        Image.fromarray(mask).save(masks / f"{name}.png")
    (covid / "boxes.csv").write_text("\n".join(boxes))
    with pytest.raises(DataError, match="option images"):
        load_dataset("aiforcovid", root=covid, options={"boxes": "boxes.csv"})
    options = {"boxes": "boxes.csv", "border": 0.0, "images": "dicom"}
    boxed = load_dataset("aiforcovid", root=covid, image_size=16, options=options)
    by_mask = load_dataset(
        "aiforcovid",
        root=covid,
        image_size=16,
        options={"masks": "masks", "border": 0.0, "table": "clinical.csv"},
    )
    assert boxed.key == by_mask.key
    path = covid / "dicom" / "P_0.dcm"
    from ensgan.data.picture import read_picture

    cut = read_picture(path)[0][6:22, 4:20]
    everything = np.concatenate([split.images for split in boxed.splits().values()])
    assert any(np.array_equal(cut, image) for image in everything)
    blacked = load_dataset(
        "aiforcovid",
        root=covid,
        image_size=16,
        options={"masks": "masks", "apply_mask": True, "border": 0.5, "table": "clinical.csv"},
    )
    assert blacked.train.images[:, :3].max() <= 4


def test_fold_files_decide_the_splits(covid: Path) -> None:
    names = [name for name, _, _ in rows()]
    parts = {"train": names[:14], "val": names[14:18], "test": names[18:]}
    (covid / "folds" / "1").mkdir(parents=True)
    for split, members in parts.items():
        (covid / "folds" / "1" / f"{split}.txt").write_text("\n".join(members))
    options = {"split_files": "folds/{fold}/{split}.txt", "fold": 1}
    dataset = load_dataset("aiforcovid", root=covid, options=options)
    assert [len(split) for split in dataset.splits().values()] == [14, 4, 6]
    (covid / "folds" / "1" / "test.txt").write_text("\n".join([*names[17:], "P_99", "P_0"]))
    with pytest.raises(DataError) as caught:
        load_dataset("aiforcovid", root=covid, options=options)
    for part in ("P_99 does not exist", "P_0 is also in train", "P_17 is also in val"):
        assert part in str(caught.value)
    (covid / "folds" / "1" / "test.txt").write_text("\n".join(names[18:]))
    (covid / "folds" / "1" / "train.txt").write_text("\n".join(names[:13]))
    (covid / "folds" / "1" / "val.txt").write_text("\n".join(names[13:18]))
    with pytest.raises(DataError, match=r"one patient are in two splits"):
        load_dataset("aiforcovid", root=covid, options=options)
    with pytest.raises(DataError, match="no such file"):
        load_dataset("aiforcovid", root=covid, options={**options, "fold": 7})


def test_rows_and_files_that_do_not_fit_are_listed_at_once(
    covid: Path, write_dicom: WriteDicom
) -> None:
    table = covid / "clinical.csv"
    text = table.read_text().replace("P_3,A,MILD", "P_3,A,UNKNOWN").replace("P_5,", "P_55,")
    table.write_text(text + "\nP_0,A,MILD,patient0")
    with pytest.raises(DataError) as caught:
        load_dataset("aiforcovid", root=covid)
    for part in (
        "P_3 has the label 'UNKNOWN', not one of MILD, SEVERE",
        "P_55 does not exist",
        "P_0 is named twice",
        "dicom/P_5.dcm has no row in the table",
    ):
        assert part in str(caught.value)


def test_problems_of_tables_files_boxes_splits_and_pixels_come_in_one_list(covid: Path) -> None:
    """Two passes would let somebody repair a table for an hour and then meet the next list."""
    table = covid / "clinical.csv"
    table.write_text(table.read_text().replace("P_3,A,MILD", "P_3,A,UNKNOWN"))
    for name in ("P_2", "P_3"):  # one with a good row, one with a bad one
        path = covid / "dicom" / f"{name}.dcm"
        path.write_bytes(path.read_bytes()[:2000])
    boxes = ["ImageFile,left,top,right,bottom", *(f"{name},4,6,20,22" for name, _, _ in rows())]
    boxes[5], boxes[6] = "P_4,4,6,twenty,22", "P_99,1,2,3,4"
    (covid / "boxes.csv").write_text("\n".join(boxes))
    names = [name for name, _, _ in rows()]
    parts = {"train": names[:13], "val": names[13:18], "test": [*names[18:23], "P_77"]}
    for split, members in parts.items():
        (covid / f"{split}.txt").write_text("\n".join(members))
    options = {"boxes": "boxes.csv", "split_files": "{split}.txt", "table": "clinical.csv"}
    with pytest.raises(DataError, match=r"clinical.csv and the files cannot be used") as caught:
        load_dataset("aiforcovid", root=covid, options=options)
    for part in (
        "P_3 has the label 'UNKNOWN', not one of MILD, SEVERE",
        "P_4 has a box that is not four numbers",
        "P_5 has neither a box nor a mask",
        "test.txt: P_77 does not exist",
        "P_23 is in no split file",
        "dicom/P_13.dcm (val): images of one patient are in two splits",
        "dicom/P_2.dcm its pixels cannot be decoded",
        "dicom/P_3.dcm its pixels cannot be decoded",
    ):
        assert part in str(caught.value), part


def test_tables_with_other_columns(covid: Path) -> None:
    table = covid / "clinical.csv"
    table.write_text(table.read_text().replace("Prognosis", "Outcome").replace("SEVERE", "BAD"))
    with pytest.raises(DataError, match=r"lacks the column Prognosis; it has ImageFile"):
        load_dataset("aiforcovid", root=covid)
    dataset = load_dataset(
        "aiforcovid", root=covid, options={"label_column": "Outcome", "classes": "MILD, BAD"}
    )
    assert dataset.class_names == ("MILD", "BAD")
    with pytest.raises(DataError, match="no image of class WORSE"):
        load_dataset(
            "aiforcovid",
            root=covid,
            options={"label_column": "Outcome", "classes": "MILD,BAD,WORSE"},
        )
    (covid / "second.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"found clinical.csv, second.csv"):
        load_dataset("aiforcovid", root=covid)
    with pytest.raises(DataError, match="inside"):
        load_dataset("aiforcovid", root=covid, options={"table": "../x.csv"})


def test_damaged_files_are_listed_by_name(covid: Path, own_cache: Path) -> None:
    for name in ("P_2", "P_7"):
        path = covid / "dicom" / f"{name}.dcm"
        path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="2 of 24 images cannot be used") as caught:
        load_dataset("aiforcovid", root=covid)
    assert "dicom/P_2.dcm its pixels cannot be decoded" in str(caught.value)
    assert "dicom/P_7.dcm" in str(caught.value)
    assert not list(own_cache.rglob("*.npz"))


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"no zip", b""])
def test_a_broken_workbook_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an Excel workbook"):
        read_table(path)
    with pytest.raises(DataError, match="save the table as one of these"):
        (tmp_path / "a.xls").write_bytes(b"")
        read_table(tmp_path / "a.xls")


def test_an_entity_bomb_in_a_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    entities = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "aaaaaaaaaa">{entities}]><worksheet>&e11;</worksheet>'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", bomb)
    with pytest.raises(DataError, match="cannot be read as an Excel workbook"):
        read_table(path)
