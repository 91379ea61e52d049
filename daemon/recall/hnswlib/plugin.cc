/* A retriever over hnswlib: a graph of near neighbours, which finds most of the nearest rows and
 * looks at few.
 *
 * Options, blank between them: `m=16` links a row (more find more, and take memory),
 * `ef_construction=200` candidates when a row is linked, `ef=200` candidates of a search, at least
 * four times k.
 *
 * It copies the rows, as float32 and under cosine at length 1. A removed row's place is kept, and
 * taken by the next that is added. Where the rows that are found are not wanted, more and more
 * candidates are taken, and in the end all rows looked at.
 */
#include "daemon/recall/kvq_retriever.h"

#include <hnswlib/hnswlib.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <queue>
#include <vector>

namespace {

constexpr size_t FIRST_ROWS = 1024, CANDIDATES_MOST = 8192, CANDIDATES_A_HIT = 4;

/* Compiled for each instruction set; the loader picks. */
#ifdef __x86_64__
#define FOR_EACH_PROCESSOR                                                                         \
    __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

FOR_EACH_PROCESSOR
float distance(const void *a, const void *b, const void *dim) {
    constexpr size_t LANES = 64;
    const float *x = static_cast<const float *>(a), *y = static_cast<const float *>(b);
    size_t count = *static_cast<const size_t *>(dim), i = 0;
    float sums[LANES] = {0}, sum = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            sums[lane] += x[i + lane] * y[i + lane];
    for (; i < count; i++)
        sums[i % LANES] += x[i] * y[i];
    for (size_t width = LANES / 2; width > 0; width /= 2)
        for (size_t lane = 0; lane < width; lane++)
            sums[lane] += sums[lane + width];
    sum = sums[0];
    return -sum;
}

class Space : public hnswlib::SpaceInterface<float> {
  public:
    explicit Space(size_t dim) : dim_(dim) {}
    size_t get_data_size() override {
        return dim_ * sizeof(float);
    }
    hnswlib::DISTFUNC<float> get_dist_func() override {
        return distance;
    }
    void *get_dist_func_param() override {
        return &dim_;
    }

  private:
    size_t dim_;
};

using Graph = hnswlib::HierarchicalNSW<float>;
using Hits = std::priority_queue<std::pair<float, uint64_t>>; /* the farthest on top */

struct Index {
    kvq_retriever_options format;
    Space space;
    size_t m = 16, ef_construction = 200, ef = 200;
    std::unique_ptr<Graph> graph;
    std::vector<hnswlib::tableint> vacant; /* places of removed rows */
    std::vector<float> row;

    explicit Index(const kvq_retriever_options &options)
        : format(options), space(options.dim), row(options.dim) {}
};

void read_options(Index &index, const char *text) {
    const struct {
        const char *format;
        size_t *value;
    } known[] = {{" m=%zu", &index.m},
                 {" ef_construction=%zu", &index.ef_construction},
                 {" ef=%zu", &index.ef}};
    std::vector<char> words(text, text + std::strlen(text) + 1);
    char *rest = nullptr;
    for (char *word = strtok_r(words.data(), " \t", &rest); word != nullptr;
         word = strtok_r(nullptr, " \t", &rest)) {
        bool read = false;
        for (const auto &option : known)
            read = read || std::sscanf(word, option.format, option.value) == 1;
        if (!read)
            throw std::runtime_error("no such option");
    }
    if (index.m < 2 || index.m > 256 || index.ef_construction < 1 || index.ef < 1)
        throw std::runtime_error("an option is out of range");
}

float half_to_float(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                               : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
    return half & 0x8000 ? -size : size;
}

/* Row i as the graph keeps it. */
const float *row_of(Index &index, const void *vectors, size_t i) {
    size_t dim = index.format.dim;
    double squares = 0;
    for (size_t c = 0; c < dim; c++) {
        index.row[c] = index.format.dtype == KVQ_RETRIEVER_F32
                           ? static_cast<const float *>(vectors)[i * dim + c]
                           : half_to_float(static_cast<const uint16_t *>(vectors)[i * dim + c]);
        squares += static_cast<double>(index.row[c]) * static_cast<double>(index.row[c]);
    }
    if (index.format.metric == KVQ_RETRIEVER_COSINE)
        for (float &value : index.row)
            value = static_cast<float>(value / std::sqrt(squares));
    return index.row.data();
}

void add_row(Index &index, uint64_t id, const float *row) {
    Graph &graph = *index.graph;
    if (graph.label_lookup_.count(id) != 0)
        return; /* loaded */
    if (index.vacant.empty()) {
        if (graph.cur_element_count == graph.max_elements_)
            graph.resizeIndex(graph.max_elements_ * 2);
        graph.addPoint(row, id);
        return;
    }
    hnswlib::tableint place = index.vacant.back();
    index.vacant.pop_back();
    graph.setExternalLabel(place, id);
    graph.label_lookup_[id] = place;
    graph.unmarkDeletedInternal(place);
    graph.updatePoint(row, place, 1.0F);
}

void vacate(Index &index, hnswlib::tableint place) {
    index.graph->label_lookup_.erase(index.graph->getExternalLabel(place));
    index.vacant.push_back(place);
}

void remove_row(Index &index, uint64_t id) {
    hnswlib::tableint place = index.graph->label_lookup_.at(id);
    index.graph->markDeletedInternal(place);
    vacate(index, place);
}

/* Of the nearest so many candidates those that are wanted. */
Hits among(const Index &index, const kvq_retriever_query &query, size_t candidates) {
    Hits found = index.graph->searchKnn(query.vector, candidates), hits;
    for (; !found.empty(); found.pop())
        if (query.wanted(query.context, found.top().second))
            hits.push(found.top());
    return hits;
}

/* Looks at every row. */
Hits among_all(const Index &index, const kvq_retriever_query &query) {
    const Graph &graph = *index.graph;
    size_t dim = index.format.dim;
    Hits hits;
    for (hnswlib::tableint place = 0; place < graph.cur_element_count; place++) {
        if (graph.isMarkedDeleted(place))
            continue;
        float far = distance(query.vector, graph.getDataByInternalId(place), &dim);
        uint64_t id = graph.getExternalLabel(place);
        if ((hits.size() < query.k || far < hits.top().first) && query.wanted(query.context, id))
            hits.emplace(far, id);
        if (hits.size() > query.k)
            hits.pop();
    }
    return hits;
}

Hits nearest(Index &index, const kvq_retriever_query &query) {
    Graph &graph = *index.graph;
    size_t candidates = query.k * CANDIDATES_A_HIT;
    candidates = candidates < index.ef ? index.ef : candidates;
    for (; candidates <= CANDIDATES_MOST && candidates < graph.cur_element_count;
         candidates *= CANDIDATES_A_HIT) {
        graph.setEf(candidates);
        Hits hits = among(index, query, candidates);
        if (hits.size() >= query.k)
            return hits;
    }
    return among_all(index, query);
}

/* No exception may leave the plugin. */
template <typename Call> int guarded(Call call) {
    try {
        call();
        return 0;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "recall-hnswlib: %s\n", error.what());
        return -1;
    }
}

Index &index_of(void *index) {
    return *static_cast<Index *>(index);
}

int open_index(const kvq_retriever_options *options, void **opened) {
    return guarded([&] {
        auto index = std::make_unique<Index>(*options);
        read_options(*index, options->options);
        index->graph =
            std::make_unique<Graph>(&index->space, FIRST_ROWS, index->m, index->ef_construction);
        *opened = index.release();
    });
}

void close_index(void *index) {
    delete static_cast<Index *>(index);
}

int add(void *index, uint64_t first_id, const void *vectors, size_t count) {
    return guarded([&] {
        for (size_t i = 0; i < count; i++)
            add_row(index_of(index), first_id + i, row_of(index_of(index), vectors, i));
    });
}

int remove_rows(void *index, uint64_t first_id, size_t count) {
    return guarded([&] {
        for (size_t i = 0; i < count; i++)
            remove_row(index_of(index), first_id + i);
    });
}

ptrdiff_t search(void *index, const kvq_retriever_query *query, kvq_retriever_hit *hits) {
    ptrdiff_t count = 0;
    int status = guarded([&] {
        Hits found = nearest(index_of(index), *query);
        while (found.size() > query->k)
            found.pop();
        count = static_cast<ptrdiff_t>(found.size());
        for (size_t i = found.size(); i > 0; i--, found.pop())
            hits[i - 1] = {found.top().second, -found.top().first};
    });
    return status == 0 ? count : -1;
}

uint64_t memory_bytes(void *index) {
    const Graph &graph = *index_of(index).graph;
    constexpr size_t LABEL_BYTES = 48; /* in a hash map */
    size_t a_place = graph.size_data_per_element_ + graph.size_links_per_element_ / graph.M_ +
                     sizeof(char *) + sizeof(int) + sizeof(std::mutex) + sizeof(uint16_t);
    return graph.max_elements_ * a_place + graph.cur_element_count * LABEL_BYTES;
}

int save(void *index, const char *path) {
    return guarded([&] { index_of(index).graph->saveIndex(path); });
}

int load(void *opened, const char *path) {
    return guarded([&] {
        Index &index = index_of(opened);
        size_t row_bytes = index.graph->size_data_per_element_;
        auto graph = std::make_unique<Graph>(&index.space, path, false, FIRST_ROWS);
        if (graph->size_data_per_element_ != row_bytes)
            throw std::runtime_error("the file is of another dimension, or number of links");
        index.graph = std::move(graph);
        index.vacant.clear();
        for (hnswlib::tableint place = 0; place < index.graph->cur_element_count; place++)
            if (index.graph->isMarkedDeleted(place))
                vacate(index, place);
    });
}

} // namespace

extern "C" {
__attribute__((visibility("default"))) extern const kvq_retriever kvq_retriever_v1;
const kvq_retriever kvq_retriever_v1 = {
    KVQ_RETRIEVER_VERSION, "hnswlib", open_index,   close_index, add,
    remove_rows,           search,    memory_bytes, save,        load};
}
