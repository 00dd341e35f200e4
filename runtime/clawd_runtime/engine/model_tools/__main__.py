"""Run a tool: `python -m clawd_runtime.engine.model_tools [--end-with-input] TOOL JSON`, its arguments.

With `--end-with-input` the process ends when its standard input does, so that it never outlives the program
that started it. It prints what `output` describes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping

from pydantic import ValidationError

from clawd_runtime.engine.model_tools.arguments import ToolArguments
from clawd_runtime.engine.model_tools.evaluation import Evaluating
from clawd_runtime.engine.model_tools.output import ProgressLines, write
from clawd_runtime.engine.model_tools.pruning import Pruning
from clawd_runtime.engine.model_tools.quantising import Quantising
from clawd_runtime.errors import RuntimeFault

TOOLS: Mapping[str, type[ToolArguments]] = {"evaluate": Evaluating, "prune": Pruning, "quantise": Quantising}
_FLAG = "--end-with-input"


def main(words: list[str]) -> int:
    """Run the tool and return the exit code."""
    if words[:1] == [_FLAG]:
        threading.Thread(target=_end_with_input, daemon=True).start()
        words = words[1:]
    if len(words) != 2 or words[0] not in TOOLS:
        names = "|".join(TOOLS)
        print(f"usage: python -m clawd_runtime.engine.model_tools [{_FLAG}] {names} JSON", file=sys.stderr)
        return 2
    try:
        result = TOOLS[words[0]].model_validate_json(words[1]).run(ProgressLines())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        write("error", {"message": f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "advice": ""})
        return 1
    except RuntimeFault as fault:
        write("error", {"message": fault.message, "advice": fault.advice})
        return 1
    except MemoryError:
        write("error", {"message": "there is too little memory", "advice": "use a machine with more memory"})
        return 1
    write("result", result)
    return 0


def _end_with_input() -> None:
    # Not through a buffer, whose lock Python needs at its end.
    while os.read(0, 1 << 16):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
