"""The messages of a SavedModel, its fingerprint, its debug information, Keras's metadata and a TensorBundle's index, for the wire reader.

Field numbers as in tensorflow 2.21 (`core/framework`, `core/protobuf`) and tf_keras 2.21 (`protobuf/saved_metadata.proto`). Maps are messages of a key
and a value (`Keyed...`). `bytes` stands also for texts that may be long, and for numbers of which every one is needed; fixed 64-bit numbers are
`double`, fixed 32-bit ones `float`: the wire is the same. Nodes, functions, objects and operators' definitions are `bytes` too: whoever walks them reads
each by its own message, so that one at a time is in memory.
"""

from __future__ import annotations

from vouchgate.scanning.protobuf_rows import schema

_ROWS = """
SavedModel 1 saved_model_schema_version int; 2 meta_graphs MetaGraphDef*
MetaGraphDef 1 meta_info_def MetaInfoDef; 2 graph_def GraphDef; 3 saver_def SaverDef; 4 collection_def KeyedCollectionDef*; 5
  signature_def KeyedSignatureDef*; 6 asset_file_def AssetFileDef*; 7 object_graph_def SavedObjectGraph
MetaInfoDef 1 meta_graph_version text; 2 stripped_op_list OpList; 3 any_info Any; 4 tags text*; 5 tensorflow_version text; 6
  tensorflow_git_version text; 7 stripped_default_attrs int; 8 function_aliases KeyedText*
OpList 1 op bytes*
OpDef 1 name text; 2 input_arg ArgDef*; 3 output_arg ArgDef*; 20 control_output text*; 4 attr AttrDef*; 8 deprecation OpDeprecation; 5
  summary bytes; 6 description bytes; 18 is_commutative int; 16 is_aggregate int; 17 is_stateful int; 19 allows_uninitialized_input int;
  21 is_distributed_communication int
ArgDef 1 name text; 2 description bytes; 3 type int; 4 type_attr text; 5 number_attr text; 6 type_list_attr text; 7 handle_data
  DtypeAndShape*; 16 is_ref int; 17 experimental_full_type FullTypeDef
DtypeAndShape 1 dtype int; 2 shape TensorShapeProto
TensorShapeProto 2 dim Dim*; 3 unknown_rank int
Dim 1 size int; 2 name text
FullTypeDef 1 type_id int; 2 args FullTypeDef*; 3 s text; 4 i int
AttrDef 1 name text; 2 type text; 3 default_value AttrValue; 4 description bytes; 5 has_minimum int; 6 minimum int; 7 allowed_values
  AttrValue
AttrValue 2 s bytes; 3 i int; 4 f float; 5 b int; 6 type int; 7 shape TensorShapeProto; 8 tensor TensorProto; 1 list AttrList; 10 func
  NameAttrList; 9 placeholder text
TensorProto 1 dtype int; 2 tensor_shape TensorShapeProto; 3 version_number int; 4 tensor_content bytes; 13 half_val int*; 5 float_val
  float*; 6 double_val double*; 7 int_val int*; 8 string_val bytes*; 9 scomplex_val float*; 10 int64_val int*; 11 bool_val int*; 12
  dcomplex_val double*; 14 resource_handle_val ResourceHandleProto*; 15 variant_val VariantTensorDataProto*; 16 uint32_val int*; 17
  uint64_val int*; 18 float8_val bytes
ResourceHandleProto 1 device text; 2 container text; 3 name text; 4 hash_code int; 5 maybe_type_name text; 6 dtypes_and_shapes
  DtypeAndShape*
VariantTensorDataProto 1 type_name text; 2 metadata bytes; 3 tensors TensorProto*
AttrList 2 s bytes*; 3 i int*; 4 f float*; 5 b int*; 6 type int*; 7 shape TensorShapeProto*; 8 tensor TensorProto*; 9 func NameAttrList*
NameAttrList 1 name text; 2 attr KeyedAttrValue*
KeyedAttrValue 1 key text; 2 value AttrValue
OpDeprecation 1 version int; 2 explanation bytes
Any 1 type_url text; 2 value bytes
KeyedText 1 key text; 2 value text
GraphDef 1 node bytes*; 4 versions VersionDef; 3 version int; 2 library FunctionDefLibrary; 5 debug_info GraphDebugInfo
NodeDef 1 name text; 2 op text; 3 input text*; 4 device text; 5 attr KeyedAttrValue*; 6 experimental_debug_info NodeNames; 7
  experimental_type FullTypeDef
NodeNames 1 original_node_names text*; 2 original_func_names text*
VersionDef 1 producer int; 2 min_consumer int; 3 bad_consumers int*
FunctionDefLibrary 1 function bytes*; 2 gradient GradientDef*; 3 registered_gradients RegisteredGradient*
FunctionDef 1 signature OpDef; 5 attr KeyedAttrValue*; 7 arg_attr IntKeyedArgAttrs*; 8 resource_arg_unique_id IntKeyedInt*; 3 node_def bytes*; 4 ret KeyedText*; 6 control_ret KeyedText*
IntKeyedArgAttrs 1 key int; 2 value ArgAttrs
ArgAttrs 1 attr KeyedAttrValue*
IntKeyedInt 1 key int; 2 value int
GradientDef 1 function_name text; 2 gradient_func text
RegisteredGradient 1 gradient_func text; 2 registered_op_type text
GraphDebugInfo 1 files text*; 4 frames_by_id DoubleKeyedFileLineCol*; 6 traces_by_id DoubleKeyedStackTrace*; 2 traces KeyedStackTrace*; 5
  name_to_trace_id KeyedDouble*
DoubleKeyedFileLineCol 1 key double; 2 value FileLineCol
FileLineCol 1 file_index int; 2 line int; 3 col int; 4 func text; 5 code bytes
DoubleKeyedStackTrace 1 key double; 2 value StackTrace
StackTrace 1 file_line_cols FileLineCol*; 2 frame_id double*
KeyedStackTrace 1 key text; 2 value StackTrace
KeyedDouble 1 key text; 2 value double
SaverDef 1 filename_tensor_name text; 2 save_tensor_name text; 3 restore_op_name text; 4 max_to_keep int; 5 sharded int; 6
  keep_checkpoint_every_n_hours float; 7 version int
KeyedCollectionDef 1 key text; 2 value CollectionDef
CollectionDef 1 node_list NodeList; 2 bytes_list BytesList; 3 int64_list Int64List; 4 float_list FloatList; 5 any_list AnyList
NodeList 1 value text*
BytesList 1 value bytes*
Int64List 1 value int*
FloatList 1 value float*
AnyList 1 value Any*
KeyedSignatureDef 1 key text; 2 value SignatureDef
SignatureDef 1 inputs KeyedTensorInfo*; 2 outputs KeyedTensorInfo*; 3 method_name text; 4 defaults KeyedTensorProto*
KeyedTensorInfo 1 key text; 2 value TensorInfo
TensorInfo 1 name text; 4 coo_sparse CooSparse; 5 composite_tensor CompositeTensor; 2 dtype int; 3 tensor_shape TensorShapeProto
CooSparse 1 values_tensor_name text; 2 indices_tensor_name text; 3 dense_shape_tensor_name text
CompositeTensor 1 type_spec TypeSpecProto; 2 components TensorInfo*
TypeSpecProto 1 type_spec_class int; 2 type_state StructuredValue; 3 type_spec_class_name text; 4 num_flat_components int
StructuredValue 1 none_value NoneValue; 11 float64_value double; 12 int64_value int; 13 string_value bytes; 14 bool_value int; 31
  tensor_shape_value TensorShapeProto; 32 tensor_dtype_value int; 33 tensor_spec_value TensorSpecProto; 34 type_spec_value TypeSpecProto;
  35 bounded_tensor_spec_value BoundedTensorSpecProto; 51 list_value ListValue; 52 tuple_value TupleValue; 53 dict_value DictValue; 54
  named_tuple_value NamedTupleValue; 55 tensor_value TensorProto; 56 numpy_value TensorProto
NoneValue -
TensorSpecProto 1 name text; 2 shape TensorShapeProto; 3 dtype int
BoundedTensorSpecProto 1 name text; 2 shape TensorShapeProto; 3 dtype int; 4 minimum TensorProto; 5 maximum TensorProto
ListValue 1 values StructuredValue*
TupleValue 1 values StructuredValue*
DictValue 1 fields KeyedStructuredValue*
KeyedStructuredValue 1 key text; 2 value StructuredValue
NamedTupleValue 1 name text; 2 values PairValue*
PairValue 1 key text; 2 value StructuredValue
KeyedTensorProto 1 key text; 2 value TensorProto
AssetFileDef 1 tensor_info TensorInfo; 2 filename text
SavedObjectGraph 1 nodes bytes*; 2 concrete_functions KeyedSavedConcreteFunction*
SavedObject 1 children ObjectReference*; 15 dependencies ObjectReference*; 3 slot_variables SlotVariableReference*; 4 user_object
  SavedUserObject; 5 asset SavedAsset; 6 function SavedFunction; 7 variable SavedVariable; 8 bare_concrete_function
  SavedBareConcreteFunction; 9 constant SavedConstant; 10 resource SavedResource; 12 captured_tensor CapturedTensor; 11 saveable_objects
  KeyedSaveableObject*; 13 registered_name text; 14 serialized_user_proto Any; 16 registered_saver text
ObjectReference 1 node_id int; 2 local_name text
SlotVariableReference 1 original_variable_node_id int; 2 slot_name text; 3 slot_variable_node_id int
SavedUserObject 1 identifier text; 2 version VersionDef; 3 metadata bytes
SavedAsset 1 asset_file_def_index int
SavedFunction 1 concrete_functions text*; 2 function_spec FunctionSpec
FunctionSpec 1 fullargspec StructuredValue; 2 is_method int; 5 input_signature StructuredValue; 6 jit_compile int
SavedVariable 1 dtype int; 2 shape TensorShapeProto; 3 trainable int; 4 synchronization int; 5 aggregation int; 6 name text; 7 device
  text; 8 experimental_distributed_variable_components SavedVariable*
SavedBareConcreteFunction 1 concrete_function_name text; 2 argument_keywords text*; 3 allowed_positional_arguments int; 4 function_spec
  FunctionSpec
SavedConstant 1 operation text
SavedResource 1 device text
CapturedTensor 1 name text; 2 concrete_function text
KeyedSaveableObject 1 key text; 2 value SaveableObject
SaveableObject 2 save_function int; 3 restore_function int
KeyedSavedConcreteFunction 1 key text; 2 value SavedConcreteFunction
SavedConcreteFunction 2 bound_inputs bytes; 3 canonicalized_input_signature StructuredValue; 4 output_signature StructuredValue
FingerprintDef 1 saved_model_checksum int; 2 graph_def_program_hash int; 3 signature_def_hash int; 4 saved_object_graph_hash int; 5
  checkpoint_hash int; 7 uuid text; 6 version VersionDef
SavedMetadata 1 nodes KerasObject*
KerasObject 2 node_id int; 3 node_path text; 4 identifier text; 5 metadata bytes; 6 version VersionDef
BundleHeaderProto 1 num_shards int; 2 endianness int; 3 version VersionDef
BundleEntryProto 1 dtype int; 2 shape TensorShapeProto; 3 shard_id int; 4 offset int; 5 size int; 6 crc32c float; 7 slices
  TensorSliceProto*
TensorSliceProto 1 extent Extent*
Extent 1 start int; 2 length int
"""
SCHEMA = schema(_ROWS)
