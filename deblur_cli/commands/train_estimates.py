"""`deblur train estimates`: an expert's estimates of windows, made before the trainings that learn from them."""

from pathlib import Path
from typing import Annotated

from deblur_cli.commands.options import DeviceOption, QuietOption, check_device, option
from deblur_cli.commands.progress import Gauge, choose_display
from deblur_cli.commands.streams import write_result
from deblur_cli.commands.train_work import choose_recipe, open_estimates
from deblur_cli.system.files import check_writable


def estimates(
    data: Annotated[Path, option("Training", "--data", "Folder of training pictures.", metavar="DIR")],
    out: Annotated[Path, option("Training", "--out -o", "Folder for the windows, for --latents.", metavar="DIR")],
    expert: Annotated[str, option("Training", "--expert", "The frozen expert.", metavar="NAME|FILE")] = "quick",
    recipe: Annotated[
        str, option("Training", "--recipe", "Of the training that they are for.", metavar="NAME|FILE")
    ] = "flow",
    changes: Annotated[
        list[str] | None, option("Training", "--set", "Replace a value of the recipe; repeat it.", metavar="KEY=VALUE")
    ] = None,
    seed: Annotated[int | None, option("Training", "--seed", "Instead of the recipe's.")] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Make windows with an expert's estimates once; trainings read them by `--latents DIR`.

    A strong expert needs a second for a window. Stopped, it goes on where it was; with more windows asked for, it adds
    those that are missing. A thousand windows take 600 MB.

    Example: deblur train estimates --data photos-and-pairs/ --expert standard --out windows/
    """
    check_device(device)
    check_writable([out])
    from deblur_cli.system.devices import find_device
    from deblur_cli.training.recipe import FlowRecipe

    chosen, where = choose_recipe(FlowRecipe, recipe, changes, None, seed), find_device(device)
    maker = open_estimates(chosen, where, data, expert, out)
    with choose_display(quiet=quiet, every=0.0, keep=True) as display:
        gauge = Gauge(None)

        def tell(there: int, wanted: int) -> None:
            gauge.begun = gauge.begun or there
            gauge.total, gauge.done, gauge.text = wanted, there, f"{there} of {wanted} windows"
            display.show(gauge)

        maker.open(where, chosen.seed, tell)
    write_result(str(out))
