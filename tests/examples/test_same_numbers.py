"""The script that shows the numbers of every plug-in; each plug-in's own test is in its trainer's environment."""

from examples.same_numbers import main


def test_the_core_prints_what_the_objective_does(capsys):
    main()
    lines = capsys.readouterr().out.splitlines()
    names, numbers = zip(*(line.split(maxsplit=1) for line in lines), strict=True)
    assert names[:2] == ("objective", "turn_loss")
    assert len(set(numbers)) == 1
    assert "+0.0000000" in numbers[0] and "loss +0.216490121" in numbers[0]
