"""What a discriminator block must do, as one battery, and hypothesis strategies to feed it.

Needs the extra ``gaslayers[testing]``.
"""

from gaslayers.testing._block_arguments import block_arguments
from gaslayers.testing._common import ContractError
from gaslayers.testing._feature_maps import feature_maps
from gaslayers.testing.contract import CHECKS, check_block

__all__ = ["CHECKS", "ContractError", "block_arguments", "check_block", "feature_maps"]
