"""Steps and strength of a flow on held-out windows: PSNR, LPIPS, detail, and its correlation with what was missing.

    python docs/measure/flow_trade_off.py WINDOWS lora.safetensors --steps 1,4,16 --strengths 0.3,0.5,1

WINDOWS is a folder `estimates-KEY` that `deblur train estimates` made. The bundled codec and base are used, pictures
are rounded to 8 bits, low frequencies are the estimate's as in a run, and the start noise is that of seed 0.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from deblur_cli.checkpoint import read_content, read_metadata
from deblur_cli.networks.flow_transformer import LoraSettings
from deblur_cli.restoration import guard
from deblur_cli.sampling.rectified_flow import sample_euler, start
from deblur_cli.training.bases import load_frozen_base
from deblur_cli.training.detail_sums import Detail
from deblur_cli.training.latents import load_frozen_codec
from deblur_cli.training.objectives import mean_psnr
from deblur_cli.training.perception import load_judge
from deblur_cli.weights.store import PACKAGE

BUNDLED = PACKAGE / "bundled"


class HeldOut:
    """The windows, and what judges a restoration of them."""

    def __init__(self, folder: Path, count: int) -> None:
        pieces = [load_file(path)["windows"] for path in sorted((folder / "held-out").glob("*.safetensors"))]
        self.blurry, self.estimate, self.sharp = (torch.cat(pieces)[:count].float() / 255).unbind(1)
        self._judge = load_judge()

    def tell(self, name: str, restored: Tensor) -> None:
        """One line, at once."""
        shown, detail = (restored.clamp(0, 1) * 255).round() / 255, Detail()
        detail.add(self.blurry, shown, self.sharp)
        psnr, lpips = mean_psnr(shown, self.sharp), float(self._judge(shown, self.sharp).mean())
        figures = f"{psnr:.2f} dB, LPIPS {lpips:.4f}, detail {detail.ratio:.3f}, correlation {detail.correlation:.3f}"
        print(f"{name}: {figures}", flush=True)  # noqa: T201


class Flow:
    """An adapter on the bundled base and codec."""

    def __init__(self, path: Path, side: int) -> None:
        self._codec = load_frozen_codec(BUNDLED / "codec.safetensors").network
        self._flow = load_frozen_base(str(BUNDLED / "transformer.safetensors"), window=side // 8).network
        self._flow.widen()
        config = read_metadata(path)["config"]
        self._level = config["start_noise"]
        self._flow.load_fused(LoraSettings(config["rank"], tuple(config["targets"])), read_content(path))
        self._flow.eval()

    def add(self, blurry: Tensor, estimate: Tensor, noise: Tensor, steps: int) -> Tensor:
        """What it adds to the estimates, (B, 3, H, W)."""
        z_y, z_s = self._codec.encode(blurry), self._codec.encode(estimate)
        x_0 = start(z_s, noise, self._level)
        x_1 = sample_euler(lambda x_t, t: self._flow(x_t, torch.full((len(x_t),), t), z_y), x_0, steps)
        residual = self._codec.decode(x_1 - z_s, estimate)
        for picture in residual:
            guard.remove_low(picture)
        return residual


@torch.inference_mode()
def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("windows", type=Path)
    parser.add_argument("lora", type=Path, nargs="+")
    parser.add_argument("--steps", default="1,2,4,8,16")
    parser.add_argument("--strengths", default="0.25,0.5,1")
    parser.add_argument("--count", type=int, default=48)
    given = parser.parse_args()
    held_out = HeldOut(given.windows, given.count)
    held_out.tell("blurry", held_out.blurry)
    held_out.tell("estimate", held_out.estimate)
    count, _, side, _ = held_out.estimate.shape
    noise = torch.randn(count, 16, side // 8, side // 8, generator=torch.Generator().manual_seed(0))
    batches = list(zip(*(part.split(12) for part in (held_out.blurry, held_out.estimate, noise)), strict=True))
    for path in given.lora:
        flow = Flow(path, side)
        for steps in map(int, given.steps.split(",")):
            added = torch.cat([flow.add(*batch, steps) for batch in batches])
            for strength in map(float, given.strengths.split(",")):
                held_out.tell(f"{path} steps {steps} strength {strength}", held_out.estimate + strength * added)


if __name__ == "__main__":
    main()
