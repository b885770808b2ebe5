from deploy.embedded.restart_policy import RestartPolicy


def test_pauses_grow_until_the_fifth_death_within_a_minute() -> None:
    policy = RestartPolicy()
    pauses = [policy.next_pause(now, was_ready=True) for now in (0, 10, 20, 30, 59)]
    known = [pause for pause in pauses if pause is not None]
    assert len(known) == 4
    assert known == sorted(known)
    assert known[0] <= 0.1
    assert known[-1] < 5
    assert pauses[-1] is None


def test_a_death_now_and_then_costs_the_shortest_pause() -> None:
    policy = RestartPolicy()
    assert {policy.next_pause(61.0 * i, was_ready=True) for i in range(100)} == {0.1}


def test_four_deaths_a_minute_are_borne() -> None:
    policy = RestartPolicy()
    assert all(policy.next_pause(now, was_ready=True) for now in (0, 1, 2, 3, 61, 62, 63, 64, 122))


def test_gives_up_what_never_becomes_ready_however_slowly() -> None:
    policy = RestartPolicy()
    outcomes = [policy.next_pause(100.0 * i, was_ready=i == 0) for i in range(6)]
    assert None not in outcomes[:5]
    assert outcomes[5] is None
