from __future__ import annotations

from envs.demo_world import world


def test_every_reference_leads_somewhere():
    isles = world()
    references = {
        "island": {"seat": "town"},
        "town": {"island": "island"},
        "person": {"birthplace": "town"},
        "film": {"director": "person", "composer": "person"},
        "novel": {"author": "person"},
        "firm": {"founder": "person", "seat": "town"},
    }
    for kind, columns in references.items():
        for thing in isles.all(kind):
            for column, target in columns.items():
                found = isles.follow(thing, column, target)
                assert found.title == thing[column] and found.title in thing.text


def test_titles_are_unique_and_passages_state_every_fact():
    articles = list(world().articles())
    assert len({article.title for article in articles}) == len(articles) == 54
    for article in articles:
        stated = {column: fact for column, fact in article.facts.items() if column != "aliases"}
        assert all(fact in article.text for fact in stated.values()), article
        assert not article.aliases or article.aliases[0] in article.text


def test_nobody_is_born_before_the_father():
    people = world().kinds["person"]
    for person in people.values():
        if person["father"] in people:
            assert 20 <= int(person["born"]) - int(people[person["father"]]["born"]) <= 50
