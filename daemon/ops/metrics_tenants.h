/* What each tenant holds, by tier and level.
 *
 * Tenants are the first METRICS_TENANTS that were named; what is zero at all of a tenant's levels
 * has no samples of its own.
 */
#ifndef DAEMON_OPS_METRICS_TENANTS_H
#define DAEMON_OPS_METRICS_TENANTS_H

#include "daemon/ops/exposition.h"
#include "daemon/store/tenant.h"

enum { METRICS_TENANTS = 64 };

void metrics_write_tenants(struct exposition *exposition, struct tenants *tenants);

#endif
