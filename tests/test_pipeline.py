"""A whole photo through tiles and back, with backends of three lines."""

import numpy as np
import pytest
import torch
from support.fake_backend import FakeBackend
from torch import Tensor, nn

from deblur_cli.errors import BackendError, PhotoError
from deblur_cli.restoration.contract import Order
from deblur_cli.restoration.pipeline import quantize, restore_image
from deblur_cli.restoration.tiling import Tiling, Windows
from deblur_cli.restoration.watch import Stopped, Watch


def noise(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(1).integers(0, top, (height, width, 3), dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 200), (64, 64), (129, 131)])
def test_restore_image_returns_the_photo_when_the_backend_is_identity(height: int, width: int, dtype: type) -> None:
    photo = noise(height, width, dtype)
    restored = restore_image(photo, FakeBackend())
    assert restored.dtype == photo.dtype
    assert np.array_equal(restored, photo)


def test_the_tile_size_does_not_change_what_a_local_backend_gives() -> None:
    def smooth(blurry: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(blurry, 5, 1, 2, count_include_pad=False)

    photo = noise(300, 220)
    whole = restore_image(photo, FakeBackend(smooth), tile=512).astype(int)
    tiled = restore_image(photo, FakeBackend(smooth), tile=64).astype(int)
    assert np.abs(whole[:296, :216] - tiled[:296, :216]).max() <= 1  # the last rows see a different padding


def test_backends_get_sides_that_are_multiples_of_their_grid() -> None:
    backend = FakeBackend()
    restore_image(noise(130, 75), backend)
    assert all(h % 16 == 0 and w % 16 == 0 for _, _, h, w in backend.shapes)


@pytest.mark.parametrize(
    "fault",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_halves_the_tile_and_says_so_once(fault: Exception) -> None:
    def answer(blurry: Tensor) -> Tensor:
        if blurry.shape[-1] > 64:
            raise fault
        return blurry

    said: list[str] = []
    photo = noise(300, 300)
    backend = FakeBackend(answer, tiling=Tiling(128, 8, 8, 16))
    assert np.array_equal(restore_image(photo, backend, watch=Watch(on_event=said.append)), photo)
    assert said == ["out of memory with tiles of 128 pixels; going on with 64"]


def test_out_of_memory_with_the_smallest_tile_is_a_clear_error() -> None:
    def answer(blurry: Tensor) -> Tensor:
        raise MemoryError

    with pytest.raises(BackendError, match="even with tiles of"):
        restore_image(noise(80, 80), FakeBackend(answer))


def test_a_fault_that_is_not_about_memory_stays_what_it_is() -> None:
    def answer(blurry: Tensor) -> Tensor:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        restore_image(noise(20, 20), FakeBackend(answer))


def test_an_answer_that_is_not_finite_fails_the_photo() -> None:
    with pytest.raises(PhotoError, match="not finite"):
        restore_image(noise(20, 20), FakeBackend(lambda blurry: blurry * torch.nan))


def test_pixels_are_counted_once_each() -> None:
    counted: list[int] = []
    restore_image(noise(200, 150), FakeBackend(), watch=Watch(on_pixels=counted.append))
    assert sum(counted) == 200 * 150
    assert len(counted) > 1


class TwoStages(FakeBackend):
    """Halves every pixel tile by tile, then adds the seed to the whole photo."""

    share = 0.37

    def enhance(self, blurry: np.ndarray, estimate: Tensor, order: Order) -> Tensor:
        height, width = blurry.shape[:2]
        for _ in range(height):
            order.watch.on_pixels(width)
        return estimate / 2 + order.seed / 255


def test_a_second_stage_gets_the_whole_estimate_and_the_seed() -> None:
    photo = noise(200, 150)
    restored = restore_image(photo, TwoStages(), seed=7)
    assert np.abs(restored.astype(float) - (photo / 2 + 7)).max() <= 0.5


def test_pixels_of_two_stages_are_counted_once_each() -> None:
    counted: list[int] = []
    restore_image(noise(201, 149), TwoStages(), watch=Watch(on_pixels=counted.append))
    assert sum(counted) == 201 * 149


def test_the_time_of_every_tile_and_stage_is_told() -> None:
    told: list[float] = []
    backend = TwoStages()
    restore_image(noise(200, 150), backend, watch=Watch(on_network=told.append))
    assert len(told) == len(backend.shapes) + 1


def test_stop_is_asked_between_tiles() -> None:
    backend = FakeBackend()
    with pytest.raises(Stopped):
        restore_image(noise(200, 200), backend, watch=Watch(stop=lambda: len(backend.shapes) >= 2))
    assert len(backend.shapes) == 2


def test_quantize_rounds_to_nearest_and_clips() -> None:
    image = torch.tensor([[[-0.2, 1.4 / 255, 1.6 / 255], [0.5, 1.0, 3.0]]])
    assert quantize(image.clone(), np.dtype(np.uint8)).tolist() == [[[0, 1, 2], [128, 255, 255]]]
    assert quantize(image, np.dtype(np.uint16))[0, 1].tolist() == [32768, 65535, 65535]


class WholePicture(FakeBackend):
    """Sees windows of 32 pixels only, and answers each by what is in all of it."""

    def __init__(self, *, batched: bool) -> None:
        super().__init__(lambda blurry: 0.5 * blurry + 0.5 * blurry.mean((2, 3), keepdim=True))
        self.tiling = Windows(32, 8, 64, 32, 16, batched=batched)


@pytest.mark.parametrize("size", [(1, 1), (20, 31), (32, 32), (75, 90)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_windows_of_one_size_give_one_picture_for_any_tile_and_batch(size: tuple[int, int], dtype: type) -> None:
    photo = noise(*size, dtype)
    expected = restore_image(photo, WholePicture(batched=False))
    assert expected.shape == photo.shape
    for tile in (64, 96, 4096):
        backend = WholePicture(batched=True)
        assert np.array_equal(restore_image(photo, backend, tile=tile), expected)
        assert {(h, w) for _, _, h, w in backend.shapes} == {(32, 32)}


def test_a_photo_smaller_than_its_window_is_mirrored() -> None:
    seen: list[Tensor] = []
    backend = WholePicture(batched=False)
    backend.answer = lambda blurry: seen.append(blurry) or blurry  # type: ignore[func-returns-value]
    photo = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    assert np.array_equal(restore_image(photo, backend), photo)
    rows = (seen[0][0, 0, :, 0] * 255).round().int().tolist()
    assert rows[:10] == [0, 9, 18, 27, 36, 27, 18, 9, 0, 9]


def test_windows_go_on_one_by_one_when_memory_runs_out() -> None:
    backend, told = WholePicture(batched=True), []
    whole = backend.answer

    def answer(blurry: Tensor) -> Tensor:
        if len(blurry) > 1:
            raise RuntimeError("out of memory")
        return whole(blurry)

    backend.answer = answer
    photo = noise(75, 90)
    restored = restore_image(photo, backend, watch=Watch(on_event=told.append))
    assert np.array_equal(restored, restore_image(photo, WholePicture(batched=False)))
    assert told == ["out of memory with tiles of 64 pixels; going on with 32"]
