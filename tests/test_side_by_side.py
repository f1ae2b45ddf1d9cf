"""Windows of a photo that threads of the processor take side by side."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from support.fake_backend import FakeBackend
from torch import Tensor, nn

from deblur_cli.backends.expert import ExpertBackend
from deblur_cli.benchmark.cost import count_macs
from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.networks.maxim import Maxim, MaximConfig
from deblur_cli.restoration.pipeline import restore_image
from deblur_cli.restoration.tiling import Windows
from deblur_cli.restoration.watch import Stopped, Watch
from deblur_cli.system import devices
from deblur_cli.system.devices import count_crew

PHOTO = np.random.default_rng(1).integers(0, 255, (200, 150, 3), np.uint8, endpoint=True)


@pytest.fixture(autouse=True)
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_thread_survives(threads: object) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before
    assert torch.get_num_threads() == 2


def windows(answer: Callable[[Tensor], Tensor], size: int = 64) -> FakeBackend:
    return FakeBackend(answer, tiling=Windows(32, 8, size, 32, 16, bytes_alone=1))


@pytest.fixture
def expert() -> ExpertBackend:
    torch.manual_seed(1)
    network = Maxim(MaximConfig(width=4, side=2, window=32))
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return ExpertBackend("tiny", network, torch.device("cpu"), torch.float32)


def test_a_real_network_makes_the_same_picture_with_one_thread_and_with_several(
    expert: ExpertBackend, threads: Callable[[int], None]
) -> None:
    assert expert.tiling.side_by_side > 1
    seen: set[int] = set()
    expert.module.register_forward_pre_hook(lambda *_: seen.add(threading.get_ident()))
    restored = [restore_image(PHOTO, expert)]
    for count in (1, 3):
        threads(count)
        restored.append(restore_image(PHOTO, expert))
    threads(2)
    assert not np.array_equal(restored[0], PHOTO)
    assert all(np.array_equal(one, restored[0]) for one in restored)


def test_pieces_are_merged_in_their_order_whichever_is_finished_first() -> None:
    met, first = threading.Barrier(2, timeout=20), []

    def answer(blurry: Tensor) -> Tensor:
        if not first:
            first.append(threading.get_ident())
            met.wait()  # until the second window is begun, by another
        elif len(first) == 1:
            first.append(threading.get_ident())
            met.wait()
        assert torch.get_num_threads() == 1
        return blurry * blurry.mean()

    told: list[int] = []
    restored = restore_image(PHOTO, windows(answer), watch=Watch(on_pixels=told.append))
    assert len(set(first)) == 2
    assert np.array_equal(restored, restore_image(PHOTO, windows(lambda blurry: blurry * blurry.mean(), size=32)))
    assert sum(told) == 200 * 150


@pytest.mark.parametrize("fault", [ValueError("of a window"), PhotoError("of a window"), BackendError("of a window")])
def test_an_error_in_a_window_ends_the_photo_as_it_is(fault: Exception) -> None:
    calls: list[int] = []

    def answer(blurry: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise fault
        return blurry

    with pytest.raises(type(fault), match="of a window"):
        restore_image(PHOTO, windows(answer))
    assert len(calls) < 12  # of 48


def test_where_memory_runs_out_windows_go_on_one_by_one() -> None:
    told: list[str] = []
    at_work = threading.Semaphore(1)

    def answer(blurry: Tensor) -> Tensor:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        with at_work:
            return blurry

    assert np.array_equal(restore_image(PHOTO, windows(answer), watch=Watch(on_event=told.append)), PHOTO)
    assert told == ["out of memory with tiles of 64 pixels; going on with 32"]


def test_a_stop_is_heard_between_windows_and_ends_those_in_work() -> None:
    first = torch.from_numpy(PHOTO[:32, :32]).permute(2, 0, 1) / 255
    in_work = threading.Event()

    def answer(blurry: Tensor) -> Tensor:
        if torch.equal(blurry[0], first):  # the one that is waited for, whichever thread is quicker
            assert in_work.wait(20)
            return blurry
        in_work.set()
        while True:  # a network of many operations
            torch.zeros(1).add_(1)

    with pytest.raises(Stopped):
        restore_image(PHOTO, windows(answer), watch=Watch(stop=in_work.is_set))


def test_an_interrupt_of_who_waits_ends_all() -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_image(PHOTO, windows(lambda blurry: blurry), watch=Watch(on_pixels=interrupt))


def test_operations_are_counted_in_all_windows() -> None:
    convolve = nn.Conv2d(3, 3, 1)
    counted = count_macs(partial(restore_image, PHOTO, windows(lambda blurry: convolve(blurry).detach())))
    assert counted == 48 * 32**2 * 9


def test_a_crew_is_as_large_as_threads_windows_and_memory_allow(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "find_free_memory", lambda: 1000)
    threads(8)
    assert [count_crew(portions, most=16, each=1) for portions in (1, 3, 8, 12, 54)] == [1, 3, 8, 6, 8]
    assert [count_crew(54, most, each) for most, each in ((4, 1), (16, 300), (16, 2000))] == [4, 3, 1]
    monkeypatch.setattr(devices, "find_free_memory", lambda: None)
    assert count_crew(54, most=16, each=1) == 8
    threads(2)
