#include "daemon/base/histogram.h"

const struct histogram_scale histogram_seconds = {1e-9,
                                                  {50000, 200000, 500000, 1000000, 2000000, 5000000,
                                                   10000000, 30000000, 100000000, 300000000,
                                                   1000000000, 10000000000, 60000000000}};
