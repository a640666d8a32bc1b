"""Reading files, and replacing them whole or not at all."""

import json
from pathlib import Path

from sqap_vla_ros.errors import UserError


def read_json(path: Path) -> dict:
    """Read a JSON object. Raises UserError that names the file."""
    try:
        data = json.loads(Path(path).read_text('utf-8'))
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; expected a policy directory with it') from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not readable as JSON: {error}') from None
    if not isinstance(data, dict):
        raise UserError(f'{path}: expected a JSON object')
    return data
