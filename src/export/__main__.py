import sys

from src.export import main

sys.exit(main())
